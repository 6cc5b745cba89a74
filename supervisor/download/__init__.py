"""Files from the network: resumed, tried again, verified, and there in one piece or not at all."""

"""
A gpt-oss of some 100,000 random weights with a tokenizer of single bytes, as a folder that transformers loads.

    PYTHON tiny_gpt_oss.py FOLDER     (with the Python that has torch and transformers)
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GptOssConfig, GptOssForCausalLM, PreTrainedTokenizerFast

MARKERS = ["<|start|>", "<|message|>", "<|end|>", "<|return|>", "<|channel|>", "<|endoftext|>"]
TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}<|message|>{{ message['content'] }}<|end|>"
    "{% endfor %}<|start|>assistant<|message|>"
)


def tokenizer():
    letters = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = {token: number for number, token in enumerate([*sorted(letters), *MARKERS])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|return|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=MARKERS,
    )
    made.chat_template = TEMPLATE
    return made


def write(folder):
    torch.manual_seed(1)
    words = tokenizer()
    config = GptOssConfig(
        vocab_size=len(words),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=128,
        rope_scaling=None,
        layer_types=["sliding_attention", "full_attention"],
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    GptOssForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    print(json.dumps({"folder": str(folder)}))


write(Path(sys.argv[1]))

"""Which programs hold a GPU's memory, from what nvidia-smi and the kernel say."""

from __future__ import annotations

from supervisor.hardware.sources.gpu_users import GpuUser, cuda_uses, gpu_users
from supervisor.tool import ToolResult

from .recorded import Recorded

MIB = 1024**2
QUERY = "nvidia-smi --query-compute-apps=pid,gpu_bus_id,used_gpu_memory,process_name --format=csv,noheader,nounits"
SAID = (
    "4242, 00000000:01:00.0, 9000, /usr/local/bin/ollama\n77, 00000000:01:00.0, 1500, C:\\Games\\Game, 2.exe\n"
    "4242, 0000000F:0A:00.0, 4000, /usr/local/bin/ollama\n9, 00000000:01:00.0, [N/A], x\nNo devices were found\n"
)


def test_nvidia_lists_programs_once_for_each_card():
    box = Recorded("linux", tools={QUERY: ToolResult(0, SAID, "")})
    assert gpu_users(box) == (GpuUser(4242, "ollama", 13000 * MIB), GpuUser(77, "Game, 2.exe", 1500 * MIB))


def test_nvidia_tells_what_a_program_holds_of_each_card():
    box = Recorded("linux", tools={QUERY: ToolResult(0, SAID, "")})
    assert [(use.pid, use.adapter, use.memory_bytes // MIB) for use in cuda_uses(box)] == [
        (4242, "0000:01:00.0", 9000),
        (77, "0000:01:00.0", 1500),
        (4242, "000f:0a:00.0", 4000),
    ]


def test_the_kernel_tells_of_drivers_of_drm_and_each_client_counts_once():
    text = "drm-driver:\tamdgpu\ndrm-client-id:\t{}\ndrm-pdev:\t0000:03:00.0\ndrm-memory-vram:\t{} KiB\n"
    box = Recorded(
        "linux",
        files={
            "/proc/500/comm": "llama-server\n",
            "/proc/500/fdinfo/4": text.format(8, 4096),
            "/proc/500/fdinfo/5": text.format(8, 4096),
            "/proc/500/fdinfo/6": text.format(9, 1024),
            "/proc/500/fdinfo/7": "pos:\t0\n",
            "/dev/dri/renderD128": "",
            "/proc/600/comm": "sh\n",
        },
        links={f"/proc/500/fd/{number}": "/dev/dri/renderD128" for number in (4, 5, 6)}
        | {"/proc/500/fd/7": "/dev/null"},
    )
    assert gpu_users(box) == (GpuUser(500, "llama-server", 5 * MIB),)


def test_a_machine_that_tells_nothing_has_no_users():
    assert gpu_users(Recorded("linux")) == gpu_users(Recorded("windows")) == ()

"""
Every option as a literal table: names, attribute of CommonParams, help text.

Numbers for words come from llama.h, ggml.h and common.h; ``mark`` is a bit of common.h's
common_params_sampling_config.
"""

from __future__ import annotations

from . import options
from .options import choice, custom, number, string, switch, text_of, value, words

CACHE_TYPES = {
    "f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q4_0": 2, "q4_1": 3, "iq4_nl": 20, "q5_0": 6, "q5_1": 7,
}  # fmt: skip
CACHE_TYPES_TEXT = "allowed values: " + ", ".join(CACHE_TYPES)
LOAD_MODES = {"auto": -1, "none": 0, "mmap": 1, "mlock": 2, "mmap+mlock": 3, "dio": 4}
NUMA = {"distribute": 1, "isolate": 2, "numactl": 3}
REASONING_FORMATS = {"none": 0, "deepseek": 3, "deepseek-legacy": 2, "auto": 1}
SPLIT_MODES = {"none": 0, "layer": 1, "row": 2, "tensor": 3}
SWITCH = {"on": True, "off": False}
SWITCH_OR_AUTO = {"on": 1, "off": 0, "auto": -1}

# fmt: off
COMMON = (
    value("-t --threads", "cpuparams.n_threads", "CPU threads for generation", options.threads),
    value("-tb --threads-batch", "cpuparams_batch.n_threads", "CPU threads for prompts", options.threads),
    value("--prio", "cpuparams.priority", "low(-1), normal(0), medium(1), high(2), realtime(3)",
          options.priority),
    value("--poll", "cpuparams.poll", "polling level to wait for work", hint="<0...100>"),
    value("-c --ctx-size", "n_ctx", "size of the context in tokens, 0 = from the model"),
    value("-n --predict --n-predict", "n_predict", "tokens to predict, -1 = no limit"),
    value("-b --batch-size", "n_batch", "logical maximum batch size"),
    value("-ub --ubatch-size", "n_ubatch", "physical maximum batch size"),
    value("--keep", "n_keep", "tokens kept from the initial prompt, -1 = all"),
    switch("--swa-full", "swa_full", "full-size cache for sliding windows"),
    choice("-fa --flash-attn", "flash_attn_type", "Flash Attention", SWITCH_OR_AUTO, "[on|off|auto]"),
    switch("--perf", "no_perf", "internal timings", "--no-perf", inverted=True),
    switch("-e --escape", "escape", r"process escapes such as \n", "--no-escape"),
    number("--rope-freq-base", "rope_freq_base", "RoPE base frequency, 0 = from the model"),
    number("--rope-freq-scale", "rope_freq_scale", "RoPE frequency scaling, 0 = from the model"),
    value("--yarn-orig-ctx", "yarn_orig_ctx", "YaRN: original context size, 0 = from the model"),
    switch("-kvo --kv-offload", "no_kv_offload", "KV cache on the GPU", "-nkvo --no-kv-offload",
           inverted=True),
    switch("--repack", "no_extra_bufts", "repacking of weights", "-nr --no-repack", inverted=True),
    switch("--no-host", "no_host", "bypass the host buffer"),
    choice("-ctk --cache-type-k", "cache_type_k", f"cache for K\n{CACHE_TYPES_TEXT}", CACHE_TYPES, "TYPE"),
    choice("-ctv --cache-type-v", "cache_type_v", f"cache for V\n{CACHE_TYPES_TEXT}", CACHE_TYPES, "TYPE"),
    choice("-lm --load-mode", "load_mode", "how the model is read", LOAD_MODES),
    choice("--numa", "numa", "for NUMA systems", NUMA),
    custom("-dev --device", "n_gpu_layers", "no offload\nallowed values: none", options.device, "DEVICE"),
    custom("-ot --override-tensor", "tensor_buft_overrides", "override the buffer type of tensors",
           options.buffer_overrides, "<tensor name pattern>=<buffer type>,..."),
    custom("-cmoe --cpu-moe", "tensor_buft_overrides", "all experts on the CPU", options.experts_on_cpu),
    custom("-ncmoe --n-cpu-moe", "tensor_buft_overrides", "the experts of the first N layers on the CPU",
           options.expert_layers_on_cpu, "N"),
    value("-ngl --gpu-layers --n-gpu-layers", "n_gpu_layers",
          "layers to store in VRAM, either an exact number, 'auto', or 'all'", options.gpu_layers),
    choice("-sm --split-mode", "split_mode", "over GPUs", SPLIT_MODES),
    value("-mg --main-gpu", "main_gpu", "the GPU for the model with split mode none", hint="INDEX"),
    choice("-fit --fit", "fit_params", "fit unset arguments to device memory", SWITCH, "[on|off]"),
    value("-fitc --fit-ctx", "fit_params_min_ctx", "smallest context that --fit may set"),
    switch("--check-tensors", "check_tensors", "check model tensor data for invalid values"),
    switch("--op-offload", "no_op_offload", "offload host operations", "--no-op-offload", inverted=True),
    string("-m --model", "model.path", "model path to load", "FNAME"),
    custom("-v --verbose --log-verbose", "verbosity", "log everything", options.verbose),
    value("-lv --verbosity --log-verbosity", "verbosity",
          "0: output, 1: error, 2: warning, 3: info, 4: trace"),
)

SAMPLING = (
    string("--samplers", "sampling.samplers", "samplers in order, separated by ';'", "SAMPLERS", mark=1),
    value("-s --seed", "sampling.seed", "RNG seed, -1 = random", options.seed, hint="SEED"),
    number("--temp --temperature", "sampling.temp", "temperature", mark=64),
    value("--top-k", "sampling.top_k", "top-k sampling, 0 = disabled", mark=2),
    number("--top-p", "sampling.top_p", "top-p sampling, 1.0 = disabled", mark=4),
    number("--min-p", "sampling.min_p", "min-p sampling, 0.0 = disabled", mark=8),
    number("--xtc-probability", "sampling.xtc_probability", "xtc probability, 0.0 = disabled", mark=16),
    number("--xtc-threshold", "sampling.xtc_threshold", "xtc threshold, 1.0 = disabled", mark=32),
    number("--typical --typical-p", "sampling.typ_p", "locally typical sampling, 1.0 = disabled"),
    value("--repeat-last-n", "sampling.penalty_last_n", "tokens to consider for penalties", mark=128),
    number("--repeat-penalty", "sampling.penalty_repeat", "penalty for repeats, 1.0 = disabled", mark=256),
    number("--presence-penalty", "sampling.penalty_present", "presence penalty, 0.0 = disabled"),
    number("--frequency-penalty", "sampling.penalty_freq", "frequency penalty, 0.0 = disabled"),
    switch("--ignore-eos", "sampling.ignore_eos", "ignore the end of stream token"),
)

SERVER = (
    value("--kv-unified-per-slot", "kv_unified_per_slot", "context limit per slot"),
    value("-ctxcp --ctx-checkpoints --swa-checkpoints", "n_ctx_checkpoints", "context checkpoints per slot"),
    value("-cms --checkpoint-min-step", "checkpoint_min_step", "least spacing between checkpoints"),
    value("-cram --cache-ram", "cache_ram_mib", "size of the prompt cache in MiB, -1 = no limit, 0 = off"),
    switch("-kvu --kv-unified", "kv_unified", "one KV buffer for all slots", "-no-kvu --no-kv-unified"),
    switch("--cache-idle-slots", "cache_idle_slots", "save idle slots to the cache", "--no-cache-idle-slots"),
    switch("--context-shift", "ctx_shift", "shift the context on overflow", "--no-context-shift"),
    switch("-sp --special", "special", "output of special tokens"),
    switch("--warmup", "warmup", "an empty run to warm up", "--no-warmup"),
    value("-np --parallel", "n_parallel", "server slots, -1 = auto"),
    switch("-cb --cont-batching", "cont_batching", "continuous batching", "-nocb --no-cont-batching"),
    string("-mm --mmproj", "mmproj.path", "path to a multimodal projector file", "FILE"),
    words("-a --alias", "model_alias", "model names for the API, comma-separated", "STRING", set),
    words("--tags", "model_tags", "model tags, comma-separated", "STRING", set),
    words("--host", "hostnames", "addresses or UNIX socket paths to listen on, comma-separated", "HOST"),
    value("--port", "port", "port to listen on", hint="PORT"),
    switch("--reuse-port", "reuse_port", "let several sockets bind the port"),
    string("--path", "public_path", "folder of static files to serve", "PATH"),
    string("--api-prefix", "api_prefix", "prefix of every path, without a slash at its end", "PREFIX"),
    string("--cors-origins", "cors_origins", "allowed origins, comma-separated", "ORIGINS"),
    switch("--ui --webui", "ui", "the web UI", "--no-ui --no-webui"),
    switch("--embedding --embeddings", "embedding", "only serve embeddings"),
    custom("--api-key", "api_keys", "keys of clients, comma-separated", options.keys, "KEY",
           env="LLAMA_API_KEY"),
    custom("--api-key-file", "api_keys", "file with keys, one per line", options.key_file, "FNAME"),
    string("--ssl-key-file", "ssl_file_key", "PEM-encoded key", "FNAME"),
    string("--ssl-cert-file", "ssl_file_cert", "PEM-encoded certificate", "FNAME"),
    custom("--chat-template-kwargs", "default_template_kwargs", "arguments of the template, a JSON object",
           options.template_json, "STRING"),
    custom("-to --timeout", "timeout_read", "read and write timeout in seconds", options.timeout, "N"),
    value("--sse-ping-interval", "sse_ping_interval", "seconds between pings of a stream"),
    value("--threads-http", "n_threads_http", "threads for HTTP requests"),
    switch("--cache-prompt", "cache_prompt", "prompt caching", "--no-cache-prompt"),
    value("--cache-reuse", "n_cache_reuse", "min chunk size to reuse from the cache"),
    switch("--metrics", "endpoint_metrics", "the /metrics endpoint"),
    switch("--props", "endpoint_props", "changing properties by POST /props"),
    switch("--slots", "endpoint_slots", "the /slots endpoint", "--no-slots"),
    switch("--jinja", "use_jinja", "the jinja engine for templates", "--no-jinja"),
    choice("--reasoning-format", "reasoning_format", "where thoughts go", REASONING_FORMATS),
    custom("-rea --reasoning", "enable_reasoning", "thinking", options.reasoning, "[on|off|auto]"),
    custom("--reasoning-effort", "default_template_kwargs",
           "given to the template: 'default', or a level such as 'low', 'medium' or 'high'",
           options.effort, "LEVEL"),
    value("--reasoning-budget", "sampling.reasoning_budget_tokens", "tokens for thinking, -1 = no limit"),
    string("--reasoning-budget-message", "sampling.reasoning_budget_message",
           "said before the end of thinking when the budget is used up", "MESSAGE"),
    custom("--reasoning-preserve", "preserve_reasoning_specified", "keep thoughts in the history",
           options.preserve_reasoning, off="--no-reasoning-preserve"),
    string("--chat-template", "chat_template", "jinja chat template", "JINJA_TEMPLATE"),
    value("--chat-template-file", "chat_template", "file of it", text_of, hint="JINJA_TEMPLATE_FILE"),
    switch("--skip-chat-parsing", "force_pure_content_parser", "all output is content",
           "--no-skip-chat-parsing"),
    switch("--prefill-assistant", "prefill_assistant", "continue a last answer", "--no-prefill-assistant"),
    number("-sps --slot-prompt-similarity", "slot_prompt_similarity",
           "how alike a prompt must be for its slot"),
    value("--sleep-idle-seconds", "sleep_idle_seconds", "sleep when idle, -1 = never", options.sleep_seconds),
)
# fmt: on

SECTIONS = {"common": COMMON, "sampling": SAMPLING, "example-specific": SERVER}

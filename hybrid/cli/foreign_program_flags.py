"""Flags of llama.cpp's and ik_llama.cpp's programs that are not about placement: prompts, sampling,
servers, logs, draft models. A command that has such a flag itself keeps it.
"""

from hybrid.cli.foreign_flag import ForeignFlag, foreign, harmless

_PROMPT = "this command reads no prompt"
_PROMPT_FILES = "what was read of a prompt is not kept in files"
_SYSTEM = "it is for `hybrid chat`; `hybrid run` continues the bare prompt"
_SAMPLING = "this command draws no tokens"
_SAMPLER = "tokens are drawn by --temp, --top-k, --top-p and --min-p alone"
_SERVER = "nothing is served here"
_LOG = "notes go to stderr, and there is no log"
_DRAFT = "there is no draft model"
_TEMPLATE = "the model's own chat template is used"
_ROPE = "positions are scaled as the model's file says"
_CPUS = "threads are pinned to one CPU a core; see -t"

PROGRAM_FLAGS: tuple[ForeignFlag, ...] = (
    foreign("-p --prompt", _PROMPT, "one"),
    foreign("-f --file", _PROMPT, "one"),
    foreign("-n --predict --n-predict", _PROMPT, "one"),
    foreign("-e --escape", _PROMPT),
    foreign("-sys --system-prompt", _SYSTEM, "one"),
    foreign("-i --interactive -if --interactive-first", "`hybrid chat` is the conversation"),
    foreign("-r --reverse-prompt", "answers end where the model ends them", "one"),
    foreign("--prompt-cache --lookup-cache-static --lookup-cache-dynamic", _PROMPT_FILES, "one"),
    foreign("--prompt-cache-all --prompt-cache-ro", _PROMPT_FILES),
    foreign("-s --seed", _SAMPLING, "one"),
    foreign("--temp --temperature --top-k --top-p --min-p", _SAMPLING, "one"),
    foreign("--ignore-eos", _SAMPLING),
    foreign("--samplers --sampling-seq --sampler-seq", _SAMPLER, "one"),
    foreign("--top-nsigma --top-n-sigma --typical --typical-p --mirostat", _SAMPLER, "one"),
    foreign("--xtc-probability --xtc-threshold --dynatemp-range", _SAMPLER, "one"),
    foreign("--dry-multiplier --dry-base --dry-allowed-length", _SAMPLER, "one"),
    foreign("--dry-penalty-last-n --dry-sequence-breaker", _SAMPLER, "one"),
    foreign("--grammar --grammar-file -j --json-schema", _SAMPLER, "one"),
    foreign("--host --port --api-key --api-key-file --path --timeout -to", _SERVER, "one"),
    foreign("-a --alias", _SERVER, "one"),
    foreign("--threads-http --slot-save-path --slot-prompt-similarity -sps", _SERVER, "one"),
    foreign("--webui", _SERVER, "one"),
    foreign("--metrics --slots --no-slots --props --no-webui --embedding --embeddings", _SERVER),
    foreign("--cache-reuse --ctx-checkpoints --swa-checkpoints", _SERVER, "one"),
    foreign("--reasoning-format --reasoning-budget --reasoning-tokens", _SERVER, "one"),
    foreign("--chat-template --chat-template-file --chat-template-kwargs", _TEMPLATE, "one"),
    foreign("-sp --special", "tokens are printed as the tokenizer spells them"),
    harmless("--log-enable --log-colors --log-prefix --log-timestamps", _LOG),
    harmless("-lv --verbosity --log-verbosity", _LOG, "one"),
    foreign("--logdir --log-file", _LOG, "one"),
    foreign("-md --model-draft -ngld --gpu-layers-draft --n-gpu-layers-draft", _DRAFT, "one"),
    foreign("--draft --draft-max --draft-n --draft-min --draft-p-min", _DRAFT, "one"),
    foreign("-devd --device-draft -cd --ctx-size-draft -otd", _DRAFT, "one"),
    foreign("--spec-type", _DRAFT, "one"),
    foreign("-mtp --multi-token-prediction", "next-token prediction is not loaded"),
    foreign("--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale", _ROPE, "one"),
    foreign("--yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor", _ROPE, "one"),
    foreign("--yarn-beta-slow --yarn-beta-fast", _ROPE, "one"),
    foreign("--override-kv", "hyper-parameters are taken as the file has them", "one"),
    foreign("--rpc", "only devices of this machine are used", "one"),
    foreign("-C --cpu-mask -Cr --cpu-range --cpu-strict --prio-batch --poll-batch", _CPUS, "one"),
)

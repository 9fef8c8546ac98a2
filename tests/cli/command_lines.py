r"""Command lines that people published for ik_llama.cpp and llama.cpp, as they typed them but for
the program, paths ("MODEL"), shell arithmetic and addresses.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One command line.

    source   where it stands
    gpus     GiB of each GPU that it was written for, or of as many as it names
    model    preset of tools.make_header and mix
    """

    source: str
    line: str
    gpus: tuple[int, ...] = (24,)
    model: tuple[str, str] = ("deepseek-r1", "Q4_K_M")


R1_Q2 = ("deepseek-r1", "Q2_K_XL")
KIMI = ("kimi-k2", "Q2_K_XL")

LINES = (
    Published(
        "ik_llama.cpp discussion 258, quick start",
        "--alias unsloth/DeepSeek-R1-Q2_K_R4 --model MODEL -rtr --ctx-size 65536 -ctk q8_0 -mla 2"
        " -fa -amb 512 -fmoe --n-gpu-layers 63 --override-tensor exps=CPU --parallel 1"
        " --threads 24 --host 127.0.0.1 --port 8080",
        model=R1_Q2,
    ),
    Published(
        "ik_llama.cpp discussion 258, CPU only",
        "--alias repack/DeepSeek-R1-Q4_K_R4 --model MODEL --ctx-size 32768 -ctk q8_0 -mla 3 -fa"
        " -amb 1024 -fmoe --parallel 1 --threads 128 --numa numactl --host 127.0.0.1 --port 8080",
        gpus=(),
    ),
    Published(
        "ik_llama.cpp pull request 260, sixteen GPUs",
        "-m MODEL -amb 1024 -fmoe -mla 2 -fa"
        " -ts 24/24/24/24/24/24/24/24/24/24/24/24/24/24/24/24 -c 16384 -ub 1024"
        r" --n-gpu-layers 100 -ot 'blk\.3\.ffn_(down|gate|up)_exps\.weight"
        r"|blk\.4\.ffn_(down|gate|up)_exps\.weight=CUDA0'"
        r" -ot 'blk\.6\.ffn_(down|gate|up)_exps\.weight"
        r"|blk\.7\.ffn_(down|gate|up)_exps\.weight=CUDA1'"
        r" -ot 'blk\.9\.ffn_(down|gate|up)_exps\.weight=CUDA2'",
        gpus=(24,) * 16,
        model=R1_Q2,
    ),
    Published(
        "ik_llama.cpp pull request 386",
        "-m 'MODEL' -c 16384 --no-mmap --no-warmup -v -ngl 99"
        r" --override-tensor 'blk\.(2[5-9]|[3-6][0-9])\..*_exps\.=CPU'"
        r" --override-tensor 'blk\.([1-6])\..*_exps\.=CUDA0'"
        r" --override-tensor 'blk\.([7-9]|1[0])\..*_exps\.=CUDA1'"
        r" --override-tensor 'blk\.(1[1-5])\..*_exps\.=CUDA2'"
        r" --override-tensor 'blk\.(1[6-9]|2[0-4])\..*_exps\.=CUDA3' -fa -mla 3 -fmoe",
        gpus=(32, 24, 24, 48),
        model=R1_Q2,
    ),
    Published(
        "ik_llama.cpp pull request 394",
        "-m 'MODEL' -c 16384 --no-mmap --no-warmup -v -ngl 99"
        r" --override-tensor 'blk\.([0-7])\..*_exps\.=CUDA0'"
        r" --override-tensor 'blk\.([8-9]|1[0-1])\..*_exps\.=CUDA1'"
        r" --override-tensor 'blk\.(1[2-6])\..*_exps\.=CUDA2'"
        r" --override-tensor 'blk\.(1[7-9]|2[0-6])\..*_exps\.=CUDA3'"
        " --override-tensor 'exps=CPU' -mg 0 -fa -fmoe",
        gpus=(32, 24, 24, 48),
        model=R1_Q2,
    ),
    Published(
        "ik_llama.cpp pull request 1886",
        "--model MODEL --alias THIREUS/DeepSeek-V3.1-Terminus-UD-Q4_K_XL --ctx-size 32768 -b 8192"
        " -ub 8192 --parallel 4 --mlock --temp 0.5 --top-k 0 --top-p 1.0 --min-p 0.1"
        " --repeat-penalty 1.1 -ctk q8_0 -mla 3 -amb 512 --split-mode layer --main-gpu 1 --cpu-moe"
        " -no-ooae --n-gpu-layers 0 --threads 32 --host 0.0.0.0 --port 8080 --jinja --special"
        " --log-enable --logdir /var/log/ --verbosity 1 --verbose-prompt --reasoning-format none"
        " --prompt-cache cache.bin --prompt-cache-all --slot-save-path slot.bin"
        " --lookup-cache-dynamic slot.bin --keep -1 --slot-prompt-similarity 0.35 --metrics"
        " -cuda fusion=1",
        gpus=(24, 24),
    ),
    Published(
        "llama.cpp pull request 13435",
        "--host 192.168.1.1 --port 8080 --alias deepseek-r1 --chat-template deepseek3 --temp 0.6"
        " --min-p 0.05 --model MODEL --n-gpu-layers 99 --numa distribute --threads 80"
        " --override-tensor exps=CPU --flash-attn --ctx_size 65536 --batch-size 10240"
        " --ubatch-size 10240 --override-kv deepseek2.expert_used_count=int:6"
        " --override-kv deepseek2.expert_weights_scale=float:2.35",
        gpus=(48,),
    ),
    Published(
        "KTransformers issue 1417",
        "--model MODEL --alias DeepSeek-V3-0324:671b-q4_k_xl --threads 32 --ctx-size 163840"
        " --n-gpu-layers 62 -ot '.ffn_.*_exps.=CPU' --seed 3407 --temp 0.3 --min-p 0.0"
        " --flash-attn --host 0.0.0.0 --port 11434",
        gpus=(96,),
    ),
    Published(
        "llama.cpp issue 10981",
        "-m MODEL -p 'What is DeepSeek?' -n 128 -ngl 0 --no-mmap --no-context-shift"
        " --numa distribute",
    ),
    Published(
        "ubergarm/r1-ktransformers-guide issue 2",
        "-ub 512 --no-mmap --tensor-split 20,19 --model MODEL --threads 16 --prio 2 --temp 0.6"
        " --ctx-size 8192 --seed 3407 --n-gpu-layers 99 -ctk iq4_nl -no-cnv"
        " --prompt 'You are an expert python developer.' -ot 'ffn_up_exps=CPU'"
        " -ot 'ffn_down_exps=CPU' -ot 'attn_kv_b=CUDA0' -ot 'ffn_up=CUDA0' -ot 'ffn_norm=CUDA1'"
        " -ot 'attn=CUDA1'",
        gpus=(96, 96),
        model=R1_Q2,
    ),
    Published(
        "unsloth issue 1591",
        "--model MODEL --cache-type-k q4_0 --threads 12 -no-cnv --n-gpu-layers 62 --prio 2"
        " --temp 0.6 --ctx-size 4096 --seed 3407 --prompt 'Create a Flappy Bird game in Python.'",
    ),
    Published(
        "ik_llama.cpp issue 437",
        "-mla 3 -fa -ctk q8_0 -ctv q8_0 --ctx-size 32768 -fmoe -amb 512 -b 1024 -ub 1024 -sm none"
        " --numa isolate --threads 16 --threads-batch 32 --n-gpu-layers 99"
        " --override-tensor exps=CPU --override-tensor attn=CUDA0 --override-tensor exp=CUDA0"
        " --override-tensor blk.*.ffn_gate_inp.weight=CUDA0"
        " --override-tensor blk.*.ffn_down.weight=CUDA0"
        " --override-tensor blk.*.ffn_gate_shexp.weight=CUDA0 --host 0.0.0.0 --port 7862"
        " --alias DeepSeek/DeepSeek-V3-0324-IQ4_K_R4 -m MODEL",
        gpus=(32, 24),
    ),
    Published(
        "THIREUS DeepSeek-R1-0528 service, three GPUs",
        "--model MODEL --alias THIREUS/DeepSeek-R1-0528-6.2478bpw --ctx-size 163840 -b 8192"
        " -ub 4096 --mlock --temp 0.5 --top-k 0 --top-p 1.0 --min-p 0.1 --repeat-penalty 1.0"
        " -ctk q8_0 -mla 3 -fa -fmoe -amb 512 --split-mode layer --tensor-split 10,21,20"
        " --main-gpu 1 --override-tensor exps=CPU --n-gpu-layers 99 --threads 32 --host 0.0.0.0"
        " --port 8080 --log-enable --logdir /var/log/ --jinja --special --verbose-prompt"
        " --verbosity 2 --prompt-cache cache.bin --prompt-cache-all --slot-save-path slot.bin"
        " --lookup-cache-dynamic slot.bin --keep -1 --slot-prompt-similarity 0.35 --metrics",
        gpus=(24, 24, 24),
    ),
    Published(
        "GGUF-Tool-Suite README",
        "-m MODEL -mla 3 -fa -amb 1024 -fmoe -ctk f16 -c 16384 -ngl 99"
        r" -ot 'blk\.(3|4|5|6)\.ffn_.*=CUDA0' -ot 'blk\.(7|8|9)\.ffn_.*=CUDA1'"
        r" -ot 'blk\.(10|11|12)\.ffn_.*=CUDA2' -ot exps=CPU -b 4096 -ub 4096 --warmup-batch"
        r" --no-mmap --threads 36 --main-gpu 0 -p 'What is the solution of x+5=-2?\n'",
        gpus=(48, 32, 32),
        model=R1_Q2,
    ),
    Published(
        "ubergarm DeepSeek-R1-0528 IQ1_S_R4",
        "--model MODEL --alias ubergarm/DeepSeek-R1-0528-IQ1_S_R4 --ctx-size 32768 -ctk q8_0 -mla 3"
        r" -fa -amb 256 -fmoe --n-gpu-layers 99 -ot 'blk\.(3|4|5|6)\.ffn_.*=CUDA0'"
        " --override-tensor exps=CPU -rtr --parallel 1 --threads 24 --host 127.0.0.1 --port 8080",
        gpus=(48,),
        model=R1_Q2,
    ),
    Published(
        "ik_llama.cpp, sweep bench of DeepSeek-R1-0528 IQ1_S",
        "--attention-max-batch 64 --batch-size 4096 --ubatch-size 4096 --cache-type-k q8_0"
        " --cache-type-v q8_0 --ctx-size 32768 --flash-attn --fused-moe --mla-use 3 --model MODEL"
        r" --n-gpu-layers 99 --override-tensor 'blk\.(16|17|18|19|20|21|22|23|24)\.ffn_.*=CUDA1'"
        r" --override-tensor 'blk\.(3|4|5|6)\.ffn_.*=CUDA0'"
        r" --override-tensor 'blk\.(7|8|9|10|11|12|13|14|15)\.ffn_.*=CUDA2'"
        " --override-tensor exps=CPU,attn_kv_b=CPU --tensor-split 100,1,1 --threads 6"
        " --threads-batch 12 --min_p 0.01 --temp 0.6 --top_p 0.95 --warmup-batch",
        gpus=(48, 48, 48),
        model=R1_Q2,
    ),
    Published(
        "ik_llama.cpp issue 687",
        "-np 1 --temp 0.6 --top-p 0.95 -mla 3 -fa -fmoe -b 4096 -ub 4096 -ctk f16 -c 128000 -np 1"
        " -op 26,0,27,0,29,0 -ngl 99 -ot exps=CPU -m MODEL",
        gpus=(48,),
        model=R1_Q2,
    ),
    Published(
        "ik_llama.cpp, Kimi-K2-Instruct-0905 smol-IQ5_KS on an RTX 5090",
        "--model MODEL --no-mmap -mla 3 -fa -fmoe -amb 512 -b 4096 -ub 4096 -ctk f16 -c 65536"
        " -ngl 999 -ot exps=CPU --threads 16 --threads-batch 28 --warmup-batch",
        gpus=(32,),
        model=KIMI,
    ),
    Published(
        "AesSedai Kimi-K2.5-GGUF discussion 7, eight RTX 3090",
        "--model MODEL --alias Kimi-K2.5-Q4_X --host 0.0.0.0 --port 8080 --ctx-size 16384"
        " --threads 32 --threads-batch 64 --batch-size 256 --ubatch-size 256 --parallel 1"
        " --flash-attn on --n-gpu-layers 999 --cache-type-k q6_0 --cache-type-v q4_0"
        " --k-cache-hadamard --graph-reuse -muge --jinja --override-tensor"
        " 'blk.1.ffn_down_exps.weight=CUDA0,blk.1.ffn_gate_exps.weight=CUDA0,"
        "blk.1.ffn_up_exps.weight=CUDA0,blk.8.ffn_down_exps.weight=CUDA1,"
        "blk.8.ffn_gate_exps.weight=CUDA1,blk.8.ffn_up_exps.weight=CUDA1,exps=CPU'",
        gpus=(24,) * 8,
        model=KIMI,
    ),
    Published(
        "llama.cpp pull request 28696",
        "-m MODEL -lm mmap -ngl 99 -cmoe -ot 'engram_embd.weight=CPU' -fa on -c 2048 -b 2048"
        " -ub 1024 -t 20",
    ),
    Published(
        "llama.cpp issue 17546",
        "--flash-attn on --gpu-layers 999 --ctx-size 50000 --mlock --no-mmap --swa-full -ctk q4_0"
        " -ctv q4_0 --api-key '***' --kv-unified --repeat-penalty 1.05 --verbose --cpu-moe --jinja"
        " --model MODEL",
    ),
    Published(
        "llama.cpp pull request 15077, flags of a comment",
        "-m MODEL --ctx-size 8192 --jinja --flash-attn --n-gpu-layers 99 --reasoning-format none"
        " --n-cpu-moe 58",
        gpus=(48, 48),
        model=R1_Q2,
    ),
    Published(
        "ik_llama.cpp pull request 480",
        "-m MODEL --numa distribute -t 48 -mla 3 -fa -fmoe -c 4096 --rpc 10.0.0.250:50052"
        " -ot exps=CPU -ngl 99 --warmup-batch",
    ),
)

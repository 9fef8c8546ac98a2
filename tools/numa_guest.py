"""Run a command of this checkout on a real kernel with several NUMA nodes, by emulation.

    python -m tools.numa_guest -- python -m tools.numa_pages
    python -m tools.numa_guest --nodes 3 -- python -m hybrid run -m demo -n 4 --numa shard

    qemu (TCG, no hardware support needed)   --nodes nodes, one CPU and --node-mib of RAM each
      kernel      Debian's, from a .deb: given, or fetched with `apt-get download`
      initramfs   busybox and the modules that mount the root, made here
      root        this machine's own file system, read-only by 9p; /tmp is the guest's memory

So the guest has the same Python, torch and native library as this shell, and the command's exit
status comes back. Needs qemu-system-x86, busybox-static and dpkg-deb (Debian: apt install
qemu-system-x86 busybox-static). A command is some thirty times slower than outside.
"""

import argparse
import gzip
import lzma
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
META_PACKAGE = "linux-image-amd64"
MODULES = ("virtio_pci", "9pnet_virtio", "9p")
BEGIN, STATUS = "numa-guest begins", "numa-guest exit status "
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "dpkg-deb": "dpkg",
}
INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
echo 1 > /proc/sys/kernel/printk
for module in {modules}; do insmod /modules/$module || echo "no module $module"; done
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 host /root
for folder in proc sys dev; do mount --bind /$folder /root/$folder; done
mount -t tmpfs tmp /root/tmp
echo "{begin}"
chroot /root {shell} -c {command}
status=$?
echo
echo "{mark}$status"
poweroff -f
"""


@dataclass(frozen=True, slots=True)
class Kernel:
    image: Path
    modules: Path  # lib/modules/VERSION


def main() -> int:
    args = _arguments()
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        print(f"install {' '.join(missing)}: apt install {' '.join(missing)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="numa-guest-") as name:
        folder = Path(name)
        kernel = unpack(args.kernel_deb or fetch(folder), folder)
        initramfs = make_initramfs(kernel, guest_command(args.command), folder)
        return boot(machine(args, kernel, initramfs), args.timeout_s)


def fetch(folder: Path) -> Path:
    """The newest kernel package of this system's own Debian mirror."""
    found = _output(["apt-cache", "depends", "--important", META_PACKAGE])
    package = next(line.split()[-1] for line in found.splitlines() if "Depends:" in line)
    subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
    return next(folder.glob("*.deb"))


def unpack(package: Path, folder: Path) -> Kernel:
    subprocess.run(["dpkg-deb", "-x", package, folder / "kernel"], check=True)
    return Kernel(
        next((folder / "kernel/boot").glob("vmlinuz-*")),
        next((folder / "kernel/lib/modules").iterdir()),
    )


def guest_command(command: list[str]) -> str:
    """One shell line: the checkout as working folder, this interpreter first on the path."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return f"cd {shlex.quote(str(ROOT))} && PATH={path} HOME=/tmp TERM=dumb {shlex.join(command)}"


def make_initramfs(kernel: Kernel, command: str, folder: Path) -> Path:
    modules: dict[str, bytes] = {}
    for name in MODULES:
        _add_module(name, kernel.modules, modules)
    init = INIT.format(
        modules=" ".join(modules),
        shell="/bin/sh",
        command=shlex.quote(command),
        begin=BEGIN,
        mark=STATUS,
    )
    busybox = Path(shutil.which("busybox") or "busybox").resolve()
    entries = [("init", init.encode(), 0o755), ("bin/busybox", busybox.read_bytes(), 0o755)]
    entries += [(f"modules/{name}", data, 0o644) for name, data in modules.items()]
    target = folder / "initramfs.gz"
    target.write_bytes(gzip.compress(cpio(["bin", "modules"], entries), compresslevel=1))
    return target


def cpio(folders: list[str], files: list[tuple[str, bytes, int]]) -> bytes:
    """An archive in the kernel's "newc" format: 13 hexadecimal fields, name, data; 4-byte steps."""
    archive = bytearray()
    entries = [(name, b"", 0o040755) for name in folders]
    entries += [(name, data, 0o100000 | mode) for name, data, mode in files]
    for number, (name, data, mode) in enumerate([*entries, ("TRAILER!!!", b"", 0)], start=1):
        raw_name = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw_name), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + raw_name
        archive += b"\0" * (-len(archive) % 4) + data
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)


def machine(args: argparse.Namespace, kernel: Kernel, initramfs: Path) -> list[str]:
    """qemu's command line."""
    total_mib = args.nodes * args.node_mib
    line = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"]
    line += ["-smp", str(args.nodes), "-m", f"{total_mib}M", "-nographic", "-no-reboot"]
    for node in range(args.nodes):
        line += ["-object", f"memory-backend-ram,id=ram{node},size={args.node_mib}M"]
        line += ["-numa", f"node,nodeid={node},cpus={node},memdev=ram{node}"]
    line += ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]
    line += ["-device", "virtio-9p-pci,fsdev=host,mount_tag=host", "-nic", "none"]
    line += ["-kernel", str(kernel.image), "-initrd", str(initramfs)]
    return [*line, "-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]


def boot(line: list[str], timeout_s: float) -> int:
    """Show what the command writes as it comes; its exit status, 1 when the guest told none."""
    status, before, begun = None, [], False
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as guest:
        end = threading.Timer(timeout_s, guest.kill)
        end.start()
        for raw in guest.stdout or ():
            text = raw.decode(errors="replace").replace("\r", "")
            if text.startswith(STATUS):
                status = int(text.removeprefix(STATUS))
            elif begun:
                print(text, end="", flush=True)
            else:
                before.append(text)
                begun = BEGIN in text  # the firmware has left its own marks before it
        end.cancel()
    if not begun:
        print("".join(before))
    if status is None:
        print(f"no exit status came out of the guest within {timeout_s} s", file=sys.stderr)
        return 1
    return status


def _add_module(name: str, folder: Path, found: dict[str, bytes]) -> None:
    """A module after those it needs; nothing for what is built into the kernel."""
    path = next((p for p in folder.rglob("*.ko*") if p.name.partition(".")[0] == name), None)
    if path is None or name in found:
        return
    data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    depends = re.search(rb"\0depends=([^\0]*)\0", data)
    for needed in (depends[1].decode() if depends else "").split(","):
        _add_module(needed, folder, found)
    found[name] = data


def _output(line: list[str | Path]) -> str:
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kernel-deb", type=Path, help="a linux-image-*.deb; left out: fetched")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--node-mib", type=int, default=1024, help="RAM of a node")
    parser.add_argument("--timeout-s", type=int, default=900)
    parser.add_argument("command", nargs="+", help="after --: what to run in the guest")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

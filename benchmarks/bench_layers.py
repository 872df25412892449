"""Every layer of some networks on every device that is there, as JSON and roofline pictures.

    python benchmarks/bench_layers.py --out results/ yolov3-tiny.cfg yolov4.cfg

`darkbn bench layers` does it for one network.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from darkbn.layer_bench import bench_layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cfg", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the results")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", action="append", help="default: all that are there")
    parser.add_argument("--no-picture", action="store_true", help="matplotlib is not needed then")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for cfg in arguments.cfg:
        devices = tuple(arguments.device) if arguments.device else None
        found = bench_layers(cfg, devices, batch=arguments.batch)
        logging.info("%s\n", found)
        target = arguments.out / f"layers-{cfg.stem}-batch{arguments.batch}"
        target.with_suffix(".json").write_text(json.dumps(found.as_dict(), indent=1) + "\n")
        if not arguments.no_picture:
            found.plot(target.with_suffix(".png"))


if __name__ == "__main__":
    main()

#!/usr/bin/env python
"""Writes a trained student as TorchScript or ONNX, once it is checked against the model on images of the test set.

Examples:
    tools/export_model.py --config-file C --format torchscript --output model.ts train.init_checkpoint=model_final.pth
    tools/export_model.py --config-file C --format onnx --output model.onnx --size 800x1344 \\
        train.init_checkpoint=model_final.pth

The file takes one image of one size, (3, H, W) in float32 from 0 to 255, in the config's channel order (mostly BGR).
A detector gives boxes in pixels of that image. This runs a RetinaNet of 800x1344 on a photo:

    import cv2, numpy, onnxruntime

    photo = cv2.imread("photo.jpg")  # BGR
    scale = min(800 / photo.shape[0], 1344 / photo.shape[1])
    photo = cv2.resize(photo, None, fx=scale, fy=scale)
    image = numpy.full((800, 1344, 3), (103.53, 116.28, 123.675), "float32")  # the model's pixel_mean
    image[: photo.shape[0], : photo.shape[1]] = photo
    session = onnxruntime.InferenceSession("model.onnx")
    boxes, classes, scores = session.run(None, {"image": image.transpose(2, 0, 1)})
    boxes /= scale  # in pixels of the photo

and the same with TorchScript, which needs torchvision's operators:

    import torch, torchvision

    model = torch.jit.load("model.ts")
    boxes, classes, scores = model(torch.from_numpy(image.transpose(2, 0, 1)))

Exits with 1, and writes nothing, if the export does not predict what the model does.
"""

import os
import sys

import cankd.utils.quiet  # noqa: F401
from cankd.engine import load_config
from cankd.export import FORMATS, export_model
from cankd.utils import ConfigArgumentParser, image_size, model_arguments, report_mistakes


@report_mistakes()
def main(args):
    config = load_config(args.config_file, args.opts, **model_arguments(args))
    described, agreement = export_model(config, args.output, format=args.format, size=args.size, images=args.check)
    if args.check > 0:
        print(f"{agreement.table()}\n")
        if not agreement.holds:
            reason = "the export does not predict what the model does"
            if agreement.is_empty:
                reason = "the model finds nothing to compare (check more by --check, or lower its score threshold)"
            sys.exit(f"{args.output} is not written: on {args.check} test images {reason}")
    print(f"{args.output} ({os.path.getsize(args.output) / 1e6:.1f} MB): {described}")


def parse_arguments(argv=None):
    parser = ConfigArgumentParser(__doc__)
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--output", required=True, metavar="FILE", help="where the exported model goes")
    help = "of the input, in pixels (default: of the first test image, resized as the config says)"
    parser.add_argument("--size", type=image_size, metavar="HEIGHTxWIDTH", help=help)
    help = "test images on which the file is compared with the model, or 0 (default: 20)"
    parser.add_argument("--check", type=int, default=20, metavar="N", help=help)
    return parser.parse_args(argv)


def cli():
    """The console command."""
    main(parse_arguments())


if __name__ == "__main__":
    cli()

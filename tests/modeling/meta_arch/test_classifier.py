import pytest
import torch
import torchvision
from cankd.checkpoint import load_all_weights
from cankd.modeling.meta_arch import Classifier
from detectron2.modeling.backbone import BasicStem, ResNet
from torch import nn


def classifier(num_classes=5, **options):
    stem = BasicStem(in_channels=3, out_channels=64, norm="BN")
    backbone = ResNet(stem, ResNet.make_default_stages(depth=18, norm="BN"), out_features=["res2", "res5"])
    normalisation = dict(pixel_mean=[123.675, 116.28, 103.53], pixel_std=[58.395, 57.12, 57.375])
    options = {"in_feature": "res5", "input_format": "RGB", **normalisation, **options}
    return Classifier(backbone=backbone, num_classes=num_classes, **options)


def records(labels=(3, 0), size=(64, 96)):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (len(labels), 3, *size), generator=generator).to(torch.uint8)
    return [{"image": image, "label": label} for image, label in zip(images, labels)]


def test_torchvisions_weights_give_torchvisions_predictions(tmp_path):
    source = torchvision.models.resnet18(num_classes=5)
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    model = classifier().eval()
    report = load_all_weights(model, str(tmp_path / "resnet18.pth"), "teacher")
    assert not report.unexpected
    batch = records()
    normalised = torchvision.transforms.functional.normalize(
        torch.stack([record["image"] for record in batch]) / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    for output, expected in zip(model(batch), source.eval()(normalised).softmax(1)):
        torch.testing.assert_close(output["scores"][output["classes"].argsort()], expected, rtol=1e-4, atol=1e-5)
        assert output["scores"].diff().le(0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_smoothed_cross_entropy(smoothing):
    model = classifier(label_smoothing=smoothing)
    recorded = []
    model.classifier.register_forward_hook(lambda module, inputs, logits: recorded.append(logits.detach()))
    loss = model(records())["loss_cls"]
    log_probabilities = recorded[0].log_softmax(1)
    targets = torch.full((2, 5), smoothing / 5)
    targets[0, 3] += 1 - smoothing
    targets[1, 0] += 1 - smoothing
    torch.testing.assert_close(loss.detach(), -(targets * log_probabilities).sum(1).mean())
    loss.backward()
    assert model.backbone.stem.conv1.weight.grad.any()


def test_refuses_what_is_not_there():
    with pytest.raises(ValueError, match="in_feature is 'res4', but the backbone gives res2, res5"):
        classifier(in_feature="res4")
    with pytest.raises(ValueError, match="a.png has no label: train a classifier on records with one"):
        classifier()([{"image": records()[0]["image"], "file_name": "a.png"}])

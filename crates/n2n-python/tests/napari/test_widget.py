"""The napari plugin, in a viewer without a screen: `just napari-test`."""

import time

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QTimer

import n2n
from n2n.napari import DenoiseWidget

DISPLAY = {"scale": (2.0, 0.5, 0.5), "colormap": "magenta", "contrast_limits": (10, 3000)}


def noisy(*shape):
    y, x = np.mgrid[0 : shape[-2], 0 : shape[-1]]
    picture = 1500 + 700 * np.sin(y / 9) * np.cos(x / 13)
    noise = np.random.default_rng(1).normal(0, 300, shape)
    return (picture + noise).clip(0, 4095).astype(np.uint16)


@pytest.fixture
def widget(qtbot):
    viewer = ViewerModel()
    metadata = {"microscope": "mine"}
    viewer.add_image(noisy(3, 96, 120), name="stack", metadata=metadata, **DISPLAY)
    widget = DenoiseWidget(viewer)
    widget.model.setCurrentText("gauss25")
    qtbot.addWidget(widget)
    return widget


def finished(qtbot, widget):
    qtbot.waitUntil(lambda: widget.cancel is None, timeout=120_000)


def test_a_layer_is_denoised_and_keeps_what_it_is(qtbot, widget):
    layer = widget.source()
    widget.run.click()
    assert not widget.run.isEnabled() and widget.stop.isEnabled()
    finished(qtbot, widget)
    clean = widget.viewer.layers["stack denoised"]
    assert np.array_equal(clean.data, n2n.denoise(layer.data, "gauss25", axes="ZYX"))
    assert np.array_equal(clean.scale, layer.scale) and clean.colormap.name == "magenta"
    assert clean.contrast_limits == layer.contrast_limits
    assert clean.metadata == layer.metadata
    assert widget.run.isEnabled() and widget.status.text() == "done"
    # Not the result, which another click would denoise again.
    assert widget.source() is layer


def test_strength_and_the_visible_region(qtbot, widget):
    layer = widget.source()
    layer.corner_pixels = np.array([[0, 10, 20], [0, 73, 99]])
    widget.crop.setChecked(True)
    widget.strength.setValue(50)
    widget.run.click()
    finished(qtbot, widget)
    clean = widget.viewer.layers["stack denoised"]
    want = n2n.denoise(layer.data[:, 10:74, 20:100], "gauss25", axes="ZYX", strength=0.5)
    assert np.array_equal(clean.data, want)
    # It lies where it was.
    assert np.allclose(clean.data_to_world((1, 0, 0)), layer.data_to_world((1, 10, 20)))


def test_a_turned_layers_region_lies_where_it_was(qtbot, widget):
    layer = widget.source()
    layer.rotate, layer.shear, layer.translate = 30, (0.0, 0.0, 0.2), (4, 5, 6)
    layer.affine = np.diag([1.0, 2, 3, 1])
    layer.corner_pixels = np.array([[0, 10, 20], [0, 41, 59]])
    widget.crop.setChecked(True)
    widget.run.click()
    finished(qtbot, widget)
    clean = widget.viewer.layers["stack denoised"]
    assert np.allclose(clean.data_to_world((1, 2, 3)), layer.data_to_world((1, 12, 23)))


def test_a_renamed_layer_stays_the_chosen_one(qtbot, widget):
    widget.viewer.add_image(noisy(64, 64), name="other")
    layer = widget.viewer.layers["other"]
    assert widget.source() is layer
    layer.name = "cells"
    assert widget.layer.currentText() == "cells" and widget.source() is layer


def test_the_preview_is_of_the_visible_region_and_follows_the_slider(qtbot, widget):
    layer = widget.source()
    layer.corner_pixels = np.array([[0, 10, 20], [0, 73, 99]])
    widget.viewer.dims.set_current_step(0, 2)
    previews = []
    widget.viewer.layers.events.inserted.connect(lambda event: previews.append(event.value))
    widget.preview.setChecked(True)
    qtbot.waitUntil(lambda: "stack preview" in widget.viewer.layers, timeout=120_000)
    preview = widget.viewer.layers["stack preview"]
    whole = n2n.denoise(layer.data, "gauss25", axes="ZYX")
    part = whole[2, 10:74, 20:100].astype(int)
    assert np.abs(preview.data[0] - part).max() <= 1
    assert np.allclose(preview.data_to_world((0, 0, 0)), layer.data_to_world((2, 10, 20)))
    # The preview does not trigger another one, and the next one reuses its layer: napari takes half a second to
    # remove one.
    qtbot.wait(600)
    assert not widget.previewing and not widget.rest.isActive() and previews == [preview]
    layer.corner_pixels = np.array([[0, 0, 0], [0, 31, 31]])
    widget.viewer.camera.zoom *= 2
    qtbot.waitUntil(lambda: preview.data.shape == (1, 32, 32), timeout=120_000)
    assert np.abs(preview.data[0] - whole[2, :32, :32].astype(int)).max() <= 1
    assert np.allclose(preview.data_to_world((0, 0, 0)), layer.data_to_world((2, 0, 0)))
    assert previews == [preview]
    # Not itself a layer to denoise.
    assert widget.layer.findText("stack preview") < 0 and widget.source() is layer
    widget.strength.setValue(0)
    assert np.array_equal(preview.data[0], layer.data[2, :32, :32])
    widget.preview.setChecked(False)
    assert "stack preview" not in widget.viewer.layers


def test_work_can_be_canceled_and_the_window_answers_meanwhile(qtbot, widget):
    widget.viewer.add_image(noisy(3000, 3000), name="large")
    widget.layer.setCurrentText("large")
    beats = []
    timer = QTimer()
    timer.timeout.connect(lambda: beats.append(time.monotonic()))
    timer.start(10)
    widget.run.click()
    qtbot.wait(1500)
    timer.stop()
    # The timer asks for a beat every 10 ms; 100 ms leave room for a busy machine.
    assert np.median(np.diff(beats)) < 0.1 and len(beats) > 15
    begin = time.monotonic()
    widget.stop.click()
    finished(qtbot, widget)
    assert time.monotonic() - begin < 5
    assert widget.status.text() == "canceled" and "large denoised" not in widget.viewer.layers


def test_training_shows_its_curve_and_gives_a_model(qtbot, widget, monkeypatch):
    settings = {"n_feature": 4, "patchsize": 64, "batchsize": 2, "steps_per_epoch": 20}
    monkeypatch.setattr(widget, "settings", lambda: {"n_epoch": 1} | settings)
    widget.train.click()
    finished(qtbot, widget)
    assert widget.model.currentText() == "trained on stack"
    assert len(widget.curve.losses) > 5 and widget.bar.value() == 1000
    widget.curve.resize(200, 90)
    image = widget.curve.grab().toImage()
    assert len({image.pixel(x, y) for x in range(0, 200, 3) for y in range(0, 90, 3)}) > 2
    widget.run.click()
    finished(qtbot, widget)
    assert "stack denoised" in widget.viewer.layers

    # If training is ended with the button, the model is what has been learned by then.
    monkeypatch.setattr(widget, "settings", lambda: {"n_epoch": 1000} | settings)
    widget.train.click()
    qtbot.waitUntil(lambda: len(widget.curve.losses) > 3, timeout=120_000)
    widget.stop.click()
    finished(qtbot, widget)
    assert widget.status.text().startswith("trained")


def test_errors_are_said(qtbot, widget):
    widget.budget.setText("soon")
    # The worker raises it again, for napari's own notice.
    with qtbot.capture_exceptions() as raised:
        widget.train.click()
        finished(qtbot, widget)
    assert "soon" in widget.status.text() and raised[0][0] is ValueError


def test_the_manifest_is_valid():
    from npe2 import PluginManager

    manager = PluginManager.instance()
    manager.discover()
    manifest = manager.get_manifest("n2n")
    manifest.validate_imports()
    assert [widget.display_name for widget in manifest.contributions.widgets] == [
        "Denoise and train"
    ]
    assert manifest.contributions.widgets[0].get_callable() is DenoiseWidget

"""The widget: layer, model and strength; preview, denoise, train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Layer
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, Qt, QTimer
from qtpy.QtGui import QPainter, QPen, QPolygonF
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

import n2n
from n2n import Model, Range, TrainStep

from . import _jobs
from ._jobs import Cancel

if TYPE_CHECKING:
    from napari.viewer import Viewer

#: Milliseconds without a change of the view after which the preview is updated.
REST = 120


class DenoiseWidget(QWidget):
    """Denoises image layers of a viewer, previews the visible region, and trains."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.models: dict[str, Model] = {}
        self.cancel: Cancel | None = None
        #: The preview: its region before and after denoising, its layer, and the source layer.
        self.shown: tuple[NDArray[Any], NDArray[Any], Image, Image] | None = None
        self.ranges: dict[tuple[int, str], Range] = {}
        self.previewing = False

        self.layer = QComboBox()
        self.model = QComboBox()
        for name, what in n2n.models().items():
            self.model.addItem(name)
            self.model.setItemData(self.model.count() - 1, what, Qt.ItemDataRole.ToolTipRole)
        self.model.setCurrentText("gauss5_50")
        self.file = QPushButton("File…")
        self.file.setToolTip("Load a model from a file")
        self.save = QPushButton("Save…")
        self.save.setToolTip("Save the model to a file")
        self.strength = QSlider(Qt.Orientation.Horizontal)
        self.strength.setRange(0, 100)
        self.strength.setValue(100)
        self.strength_label = QLabel("100 %")
        self.preview = QCheckBox("Preview the visible region")
        self.crop = QCheckBox("Only the visible region")
        self.run = QPushButton("Denoise")
        self.budget = QLineEdit("10m")
        self.budget.setToolTip("Time for training, such as 30m or 1h 30m")
        self.train = QPushButton("Train on this layer")
        self.curve = Curve()
        self.stop = QPushButton("Cancel")
        self.stop.setEnabled(False)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.status = QLabel()
        self.status.setWordWrap(True)

        form = QFormLayout()
        form.addRow("Layer", self.layer)
        form.addRow("Model", _row(self.model, self.file, self.save))
        form.addRow("Strength", _row(self.strength, self.strength_label))
        training = QGroupBox("Training")
        inner = QFormLayout(training)
        inner.addRow("Time", self.budget)
        inner.addRow(self.train)
        inner.addRow(self.curve)
        outer = QVBoxLayout(self)
        outer.addLayout(form)
        for part in (self.preview, self.crop, self.run, training, self.bar, self.stop, self.status):
            outer.addWidget(part)
        outer.addStretch()

        self.rest = QTimer(self)
        self.rest.setSingleShot(True)
        self.rest.setInterval(REST)
        self.rest.timeout.connect(self._preview)
        self.run.clicked.connect(self._denoise)
        self.train.clicked.connect(self._train)
        self.stop.clicked.connect(self._stop)
        self.file.clicked.connect(self._load)
        self.save.clicked.connect(self._save)
        self.strength.valueChanged.connect(self._blend)
        self.preview.toggled.connect(self._toggle_preview)
        self.layer.currentTextChanged.connect(self._changed)
        self.model.currentTextChanged.connect(self._changed)
        layers = self.viewer.layers
        layers.events.inserted.connect(self._list_layers)
        layers.events.removed.connect(self._list_layers)
        layers.selection.events.active.connect(self._follow_selection)
        self.viewer.camera.events.connect(self._changed)
        self.viewer.dims.events.current_step.connect(self._changed)
        self._list_layers()
        self._follow_selection()

    # The choices.

    def _list_layers(self, event: object = None) -> None:
        sources = [layer for layer in self.viewer.layers if self._is_source(layer)]
        names = [layer.name for layer in sources]
        for layer in sources:
            layer.events.name.connect(self._list_layers)
            layer.events.data.connect(self._forget_ranges)
        if len(names) == self.layer.count():
            # At most renamed: the selection is kept.
            for i, name in enumerate(names):
                self.layer.setItemText(i, name)
        else:
            self._forget_ranges()
            chosen = self.layer.currentText()
            self.layer.clear()
            self.layer.addItems(names)
            if chosen in names:
                self.layer.setCurrentText(chosen)
        self.run.setEnabled(bool(names) and self.cancel is None)
        self.train.setEnabled(bool(names) and self.cancel is None)

    def _forget_ranges(self, event: object = None) -> None:
        self.ranges.clear()
        self._changed()

    def _is_source(self, layer: Layer) -> bool:
        return isinstance(layer, Image) and "n2n preview" not in layer.metadata

    def _follow_selection(self, event: object = None) -> None:
        active = self.viewer.layers.selection.active
        if active is not None and self._is_source(active):
            self.layer.setCurrentText(active.name)

    def source(self) -> Image | None:
        """The selected layer."""
        name = self.layer.currentText()
        return self.viewer.layers[name] if name in self.viewer.layers else None

    def _model(self) -> str | Model:
        """The selected model; a shipped one by name, because the window would freeze while it loads."""
        name: str = self.model.currentText()
        return self.models.get(name, name)

    def add_model(self, name: str, model: Model) -> None:
        """Adds a model to the menu and selects it."""
        self.models[name] = model
        self._forget_ranges()
        if self.model.findText(name) < 0:
            self.model.addItem(name)
        self.model.setCurrentText(name)

    def _load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Load a model", filter="Models (*.safetensors *.onnx *.pth *.pdparams);;All (*)"
        )
        if path:
            try:
                self.add_model(path, Model.load(path))
            except (OSError, ValueError) as error:
                self._say(str(error))

    def _save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the model", "model.safetensors", "Models (*.safetensors *.onnx)"
        )
        if path:
            try:
                model = self._model()
                (model if isinstance(model, Model) else Model.load(model)).save(path)
                self._say(f"saved as {path}")
            except (OSError, ValueError) as error:
                self._say(str(error))

    # Denoise and train.

    def _denoise(self) -> None:
        layer = self.source()
        if layer is None:
            return
        region = _jobs.visible(layer) if self.crop.isChecked() else None
        self._begin("denoising")
        assert self.cancel is not None
        worker = _jobs.denoise(
            layer, self._model(), self.strength.value() / 100, region, self.cancel
        )
        worker.yielded.connect(lambda fraction: self.bar.setValue(round(1000 * fraction)))
        worker.returned.connect(lambda clean: self._denoised(layer, clean, region))
        self._start(worker)

    def _denoised(
        self, layer: Image, clean: NDArray[Any] | None, region: tuple[slice, slice] | None
    ) -> None:
        if clean is None:
            self._say("canceled")
            return
        self._add_like(layer, clean, f"{layer.name} denoised", region)
        # A new layer is selected, and a second click would denoise the result.
        self.layer.setCurrentText(layer.name)
        self._say("done")

    def _add_like(
        self,
        layer: Image,
        data: NDArray[Any],
        name: str,
        region: tuple[slice, slice] | None,
        at: tuple[int, ...] = (),
        more: dict[str, Any] | None = None,
    ) -> Image:
        """Adds a layer with the scale, colors and metadata of another, for all of it or for a region of its images from
        `at` on. `more` is added to the metadata."""
        _, state, _ = layer.as_layer_data_tuple()
        state.update(name=name, multiscale=False, metadata={**layer.metadata, **(more or {})})
        for key in ("data_level", "corner_pixels"):
            state.pop(key, None)
        if region is not None:
            state["translate"] = _translate(layer, _corner(layer, region, at))
        added = Image(data, **state)
        self.viewer.add_layer(added)
        return added

    def _train(self) -> None:
        layer = self.source()
        if layer is None:
            return
        self._begin("training")
        self.curve.clear()
        assert self.cancel is not None
        worker = _jobs.train(layer, self.budget.text(), self.cancel, self.settings())
        worker.yielded.connect(self._stepped)
        worker.returned.connect(lambda model: self._trained(layer, model))
        self._start(worker)

    def settings(self) -> dict[str, Any]:
        """Training settings other than the time."""
        return {}

    def _stepped(self, step: TrainStep) -> None:
        self.bar.setValue(round(1000 * step.passed))
        if step.loss is not None:
            self.curve.add(step.loss)
        left = f", {_time(step.left_s)} left" if np.isfinite(step.left_s) else ""
        self._say(f"training: epoch {step.epoch}, iteration {step.iteration}{left}")

    def _trained(self, layer: Image, model: Model) -> None:
        self.add_model(f"trained on {layer.name}", model)
        self._say("trained; use Save to keep the model")

    def _begin(self, what: str) -> None:
        self.cancel = Cancel()
        self.run.setEnabled(False)
        self.train.setEnabled(False)
        self.stop.setEnabled(True)
        self.bar.setValue(0)
        self._say(what)

    def _start(self, worker: Any) -> None:
        worker.errored.connect(self._failed)
        worker.finished.connect(self._end)
        worker.start()

    def _stop(self) -> None:
        if self.cancel is not None:
            self.cancel.ask()
            self._say("stopping")

    def _failed(self, error: BaseException) -> None:
        self._say(str(error))

    def _end(self) -> None:
        self.cancel = None
        self.stop.setEnabled(False)
        self._list_layers()

    def _say(self, words: str) -> None:
        self.status.setText(words)

    # The preview.

    def _toggle_preview(self, on: bool) -> None:
        if on:
            self._changed()
        else:
            self._remove_preview()

    def _changed(self, event: object = None) -> None:
        if self.preview.isChecked():
            self.rest.start()

    def _preview(self) -> None:
        layer = self.source()
        if layer is None or not self.preview.isChecked() or self.viewer.dims.ndisplay != 2:
            return
        if self.previewing:
            # The one in progress is for an older view.
            self.rest.start()
            return
        region = _jobs.visible(layer)
        if region is None:
            return
        lead = layer.ndim - 2
        at = tuple(int(i) for i in layer.world_to_data(self.viewer.dims.point)[:lead])
        at = tuple(min(max(i, 0), n - 1) for i, n in zip(at, layer.data.shape[:lead], strict=False))
        key = (id(layer), self.model.currentText())
        worker = _jobs.preview(layer, self._model(), at, region, self.ranges.get(key))
        self.previewing = True

        def show(result: tuple[NDArray[Any], NDArray[Any], Range]) -> None:
            noisy, clean, self.ranges[key] = result
            if self.preview.isChecked():
                self._show_preview(layer, noisy, clean, at, region)

        worker.returned.connect(show)
        worker.errored.connect(self._failed)
        worker.finished.connect(self._previewed)
        worker.start()

    def _previewed(self) -> None:
        self.previewing = False

    def _show_preview(
        self,
        layer: Image,
        noisy: NDArray[Any],
        clean: NDArray[Any],
        at: tuple[int, ...],
        region: tuple[slice, slice],
    ) -> None:
        lead = (np.newaxis,) * (layer.ndim - 2)
        noisy, clean = noisy[lead], clean[lead]
        if self.shown is not None and self.shown[2] in self.viewer.layers and self.shown[3] is layer:
            # Removing a layer and adding another would freeze the window for half a second.
            added = self.shown[2]
            added.data = clean
            added.translate = _translate(layer, _corner(layer, region, at))
        else:
            self._remove_preview()
            name = f"{layer.name} preview"
            added = self._add_like(layer, clean, name, region, at, {"n2n preview": True})
            self.viewer.layers.selection.active = layer
        self.shown = (noisy, clean, added, layer)
        self._blend()

    def _remove_preview(self) -> None:
        if self.shown is not None and self.shown[2] in self.viewer.layers:
            self.viewer.layers.remove(self.shown[2])
        self.shown = None

    def _blend(self, value: object = None) -> None:
        """Shows the preview at the strength of the slider, without running the network."""
        share = self.strength.value() / 100
        self.strength_label.setText(f"{self.strength.value()} %")
        if self.shown is None:
            return
        noisy, clean, layer, _ = self.shown
        blended = noisy + share * (clean.astype(np.float64) - noisy)
        if clean.dtype.kind in "ui":
            blended = np.rint(blended)
        layer.data = blended.astype(clean.dtype)


class Curve(QWidget):
    """The loss of training over its steps, smoothed."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.setMinimumHeight(90)

    def clear(self) -> None:
        """Removes all points."""
        self.losses.clear()
        self.update()

    def add(self, loss: float) -> None:
        """Adds the loss of the next step."""
        self.losses.append(loss)
        self.update()

    def paintEvent(self, event: object) -> None:
        """Draws the curve, the newest loss on the right, on a logarithmic scale."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        width, height = self.width(), self.height()
        painter.fillRect(self.rect(), self.palette().base())
        painter.setPen(self.palette().text().color())
        if len(self.losses) < 2:
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "loss")
            return
        losses = np.log10(np.maximum(self.losses, 1e-12))
        points = min(len(losses), max(width, 2))
        means = np.array([part.mean() for part in np.array_split(losses, points)])
        low, high = means.min(), means.max()
        span = high - low or 1.0
        xs = np.linspace(4, width - 4, points)
        ys = 18 + (high - means) / span * (height - 24)
        painter.drawText(4, 13, f"loss {10 ** means[-1]:.3g}")
        painter.setPen(QPen(self.palette().highlight().color(), 2))
        painter.drawPolyline(QPolygonF([QPointF(x, y) for x, y in zip(xs, ys, strict=True)]))


def _corner(layer: Image, region: tuple[slice, slice], at: tuple[int, ...]) -> NDArray[Any]:
    """The position of the first pixel of a region of the images from `at` on."""
    corner = np.zeros(layer.ndim)
    corner[: len(at)] = at
    corner[-2:] = [span.start for span in region]
    return corner


def _translate(layer: Image, corner: NDArray[Any]) -> NDArray[Any]:
    """The translation of a layer that begins at a pixel of another, which may be scaled, rotated or sheared."""
    return np.asarray(layer.affine.inverse(layer.data_to_world(corner)))


def _row(*parts: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for part in parts:
        row.addWidget(part)
    return row


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

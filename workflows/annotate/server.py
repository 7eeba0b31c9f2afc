"""The HTTP endpoints: thin, each a few lines over a Studio. `/api/openapi.json` documents them."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import duckdb
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import TypeAdapter

from sam_core.masks import rle
from sam_core.masks.batch import MaskRecords
from sam_core.windows import Box
from schemas.catalog import told_by_files
from workflows.annotate import contract
from workflows.annotate.assets import RUNTIME_FILES, Runtime
from workflows.annotate.assistant import AnnotatedImage
from workflows.annotate.decoder import Answer
from workflows.annotate.guard import Guard
from workflows.annotate.journal import ConflictError, ElsewhereError
from workflows.annotate.queue import HeldError
from workflows.annotate.studio import Studio
from workflows.failures import one_line
from workflows.images import ImageError

STATIC = Path(__file__).parent / "static"
GRAPHS = ("prepare", "prepare_with_mask", "decode", "ask", "draw")
ImageId = Annotated[str, InPath(pattern=contract.NAME)]
InWindow = Annotated[str | None, Query(pattern=r"^[0-9]{1,9}(,[0-9]{1,9}){3}$", description=contract.WINDOW)]
_QUEUE = TypeAdapter(list[contract.QueueItem])
_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}


def create_app(studio: Studio, *, token: str | None, runtime: Runtime | None) -> FastAPI:
    """The application. `runtime` is ONNX Runtime Web where it is at hand."""
    app = FastAPI(
        title="SAM Data Engine",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        version="1",
        dependencies=[Depends(_same_task(studio))],
    )
    _add_project(app, studio, runtime)
    _add_queue(app, studio)
    _add_images(app, studio)
    _add_model(app, studio)
    _add_failures(app)
    _add_files(app, runtime)
    app.add_middleware(Guard, host=studio.config.host, token=token)
    return app


def _same_task(studio: Studio) -> Callable[[str | None], None]:
    """A dependency that refuses requests for another task than this server's: of other stage, round, run or model."""

    def check(x_task: Annotated[str | None, Header(max_length=100)] = None) -> None:
        if x_task is not None and x_task != studio.task_key:
            task = studio.task
            named = task.stage.replace("_", " ") + ("" if task.round is None else f", round {task.round}")
            raise HTTPException(412, f"this server has another task now ({named}); save, then reload the page")

    return check


def _add_project(app: FastAPI, studio: Studio, runtime: Runtime | None) -> None:
    @app.get("/api/project")
    def project() -> contract.Project:
        """What the task is, and the model that assists."""
        config, assistant = studio.config, studio.assistant
        return contract.Project(
            dataset=studio.dataset,
            task=studio.task,
            task_key=studio.task_key,
            images=len(studio.images),
            reminder_seconds=config.reminder_seconds,
            lease_seconds=config.lease_seconds,
            now=datetime.now(UTC),
            model=contract.ModelFacts(
                image_size=assistant.image_size,
                low_res_size=assistant.low_res_size,
                browser_decoder=runtime is not None,
                text_prompts=assistant.takes_text,
            ),
        )

    @app.put("/api/sessions/{session}/parts/{part}")
    def save(session: ImageId, part: Annotated[int, InPath(ge=1, lt=10**8)], save: contract.Save) -> contract.Saved:
        """Keep masks and events. Answered when they are on disk; may be sent again without harm, and to a server of
        another task: what a save says it was made for, it is kept as. 421 where it is of another data set."""
        studio.save(session, part, save)
        return contract.Saved(session=session, part=part)


def _add_queue(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/queue", response_model=list[contract.QueueItem])
    def queue(accept_encoding: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
        """Every image of the task, in order."""
        data = _QUEUE.dump_json([studio.item(image) for image in studio.images])
        headers = {"Vary": "Accept-Encoding"}
        if "gzip" in accept_encoding:  # of 300,000 images 47 MB, which become 8
            data, headers = gzip.compress(data, 1), headers | {"Content-Encoding": "gzip"}
        return Response(data, media_type="application/json", headers=headers)

    @app.post("/api/queue/next")
    def next_image(claim: contract.Claim) -> contract.QueueItem | None:
        """The image that this person shall work on, theirs from now on; null when nothing is left."""
        image = studio.queue.next(claim.annotator, datetime.now(UTC))
        return None if image is None else studio.item(image)

    @app.put("/api/queue/{image_id}/lease")
    def hold(image_id: ImageId, claim: contract.Claim) -> contract.QueueItem:
        """Take an image, or go on holding it; 409 when somebody else works on it."""
        _find(studio, image_id)
        studio.queue.hold(image_id, claim.annotator, datetime.now(UTC))
        return studio.item(image_id)

    @app.post("/api/queue/{image_id}/release", status_code=204)
    def release(image_id: ImageId, claim: contract.Claim) -> None:
        """Give an image back."""
        _find(studio, image_id)
        studio.queue.release(image_id, claim.annotator)


def _add_images(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/images/{image_id}/picture", response_class=Response)
    def picture(image_id: ImageId) -> Response:
        """The upright picture."""
        data, media_type = studio.assistant.picture(_find(studio, image_id))
        return Response(data, media_type=media_type, headers=_FOR_EVER)

    @app.get("/api/images/{image_id}/embedding", response_class=Response)
    def embedding(image_id: ImageId, window: InWindow = None) -> Response:
        """The embedding of an image, or of a window of it, by the model of this task: safetensors, float16."""
        data = studio.assistant.embedding_file(_find(studio, image_id), _window(window))
        return Response(data, media_type="application/octet-stream")

    @app.get("/api/images/{image_id}/masks")
    def masks(image_id: ImageId) -> list[contract.ShownMask]:
        """Masks that stand, and proposals."""
        _find(studio, image_id)
        return studio.masks(image_id)


def _add_model(app: FastAPI, studio: Studio) -> None:
    @app.post("/api/decode")
    def decode(request: contract.DecodeRequest) -> contract.Decoded:
        """Masks for points, a box, a text, or several of them, and for a mask to start from; best first."""
        image = _find(studio, request.image_id)
        answer = studio.assistant.decode(image, request)
        if request.output == "logits":
            logits = base64.b64encode(answer.logits.astype("<f2").tobytes()).decode()
            return contract.Decoded(logits=logits, iou=answer.iou.tolist(), note=answer.note)
        return contract.Decoded(candidates=_candidates(answer), iou=answer.iou.tolist(), note=answer.note)

    @app.post("/api/automatic")
    def automatic(request: contract.AutomaticRequest) -> contract.AutomaticMasks:
        """Every mask of an image by the automatic generator; takes seconds."""
        image = _find(studio, request.image_id)
        return _automatic(image, studio.assistant.automatic(image, request.recipe))

    @app.get("/api/model/{graph}.onnx", response_class=Response)
    def graph(graph: str) -> Response:
        """The decoder's graphs for ONNX Runtime: prepare, prepare_with_mask, decode; or ask and draw in its place."""
        if graph not in GRAPHS:
            raise HTTPException(404, f"there is no graph {graph}; there are {', '.join(GRAPHS)}")
        return Response(getattr(studio.assistant.graphs, graph), media_type="application/octet-stream")


def _add_failures(app: FastAPI) -> None:
    """Bad input is 400, conflicts 409, another data set's 421, a store that fails 503; each with one line."""

    def answer(status: int, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": one_line(error)}, status)

    app.exception_handler(HeldError)(lambda _request, error: answer(409, error))
    app.exception_handler(ConflictError)(lambda _request, error: answer(409, error))
    app.exception_handler(ElsewhereError)(lambda _request, error: answer(421, error))
    app.exception_handler(ImageError)(lambda _request, error: answer(422, error))
    app.exception_handler(ValueError)(lambda _request, error: answer(400, error))
    app.exception_handler(OSError)(lambda _request, error: answer(503, error))

    @app.exception_handler(duckdb.Error)
    def away(_request: Request, error: duckdb.Error) -> JSONResponse:
        if line := told_by_files(error):
            return answer(503, OSError(line))
        raise error


def _add_files(app: FastAPI, runtime: Runtime | None) -> None:
    @app.get("/runtime/{name}", include_in_schema=False)
    def runtime_file(name: str, _request: Request) -> FileResponse:
        if runtime is None or name not in RUNTIME_FILES:
            raise HTTPException(404, "ONNX Runtime Web is not here; masks are decoded by the server")
        media_type = "application/wasm" if name.endswith(".wasm") else "text/javascript"
        return FileResponse(runtime.folder / name, media_type=media_type, headers=_FOR_EVER)

    app.mount("/", StaticFiles(directory=STATIC, html=True), name="app")


def _find(studio: Studio, image_id: str) -> AnnotatedImage:
    if image_id not in studio.images:
        raise HTTPException(404, f"there is no image {image_id} in this task")
    return studio.images[image_id]


def _window(text: str | None) -> Box | None:
    """The window that a query names."""
    if text is None:
        return None
    x0, y0, x1, y1 = map(int, text.split(","))
    return x0, y0, x1, y1


def _candidates(answer: Answer) -> list[contract.Candidate]:
    found = answer.measures()
    return [
        contract.Candidate(
            predicted_iou=float(answer.iou[output]),
            rle=rle.compress(found.runs[place]).decode(),
            bbox=_box(found.boxes[place].tolist(), area),
            area=area,
        )
        for place, (output, area) in enumerate(zip(answer.order, found.areas.tolist(), strict=True))
    ]


def _box(pixels: list[int], area: int) -> tuple[int, int, int, int]:
    """xywh of the first and the last pixel x0, y0, x1, y1 of a mask, zeros when it is empty."""
    x0, y0, x1, y1 = pixels
    return (x0, y0, x1 - x0 + 1, y1 - y0 + 1) if area else (0, 0, 0, 0)


def _automatic(image: AnnotatedImage, found: MaskRecords) -> contract.AutomaticMasks:
    masks = [
        contract.AutomaticMask(
            rle=found.rle[index].decode(),
            bbox=tuple(found.boxes[index].tolist()),
            area=int(found.areas[index]),
            predicted_iou=float(found.predicted_iou[index]),
            stability_score=float(found.stability_score[index]),
            point=tuple(found.points[index].tolist()),
            crop_box=tuple(found.crop_boxes[index].tolist()),
        )
        for index in range(len(found))
    ]
    return contract.AutomaticMasks(height=image.height, width=image.width, masks=masks)

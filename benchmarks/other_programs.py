"""Reconstruction by other programs: sinograms of many channels in, images out.

Each function prepares what may be prepared once, and returns the work that is timed. Sinograms are
(channel, angle, translation), which suits these programs best; images are (y, x, channel).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def astra_loop(
    name: str,
    theta: Float64,
    size: int,
    sinograms: np.ndarray,
    workers: int,
    iterations: int,
) -> Callable[[], np.ndarray]:
    """Loop over the channels as ASTRA's users do, on objects that are made once per thread."""
    import astra

    beam = astra.create_proj_geom("parallel", 1.0, size, theta)
    grid = astra.create_vol_geom(size, size)

    def loop(channels: range) -> list[np.ndarray]:
        projector = astra.create_projector("linear", beam, grid)
        data, image = astra.data2d.create("-sino", beam), astra.data2d.create("-vol", grid)
        config = astra.astra_dict(name) | {
            "ProjectorId": projector,
            "ProjectionDataId": data,
            "ReconstructionDataId": image,
            "option": {"FilterType": "Ram-Lak"} if name == "FBP" else {},
        }
        images = []
        for channel in channels:
            astra.data2d.store(data, sinograms[channel])
            astra.data2d.store(image, 0)
            algorithm = astra.algorithm.create(config)  # CGLS would go on from the last channel
            astra.algorithm.run(algorithm, iterations)
            astra.algorithm.delete(algorithm)
            images.append(astra.data2d.get(image))
        astra.data2d.delete([data, image])
        astra.projector.delete(projector)
        return images

    def work() -> np.ndarray:
        shares = [range(n, len(sinograms), workers) for n in range(workers)]
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(loop, shares))
        images = np.empty((size, size, len(sinograms)), dtype=np.float32)
        for share, part in zip(shares, parts, strict=True):
            for channel, image in zip(share, part, strict=True):
                images[..., channel] = image
        return images

    return work


def iradon(theta: Float64, sinograms: np.ndarray) -> Callable[[], np.ndarray]:
    from skimage import transform

    degrees = np.rad2deg(theta)
    reconstruct: Any = transform.iradon  # carries no types

    def work() -> np.ndarray:
        return np.stack(
            [reconstruct(one.T, degrees, filter_name="ramp") for one in sinograms], axis=-1
        )

    return work


def algotom_fbp(theta: Float64, sinograms: np.ndarray) -> Callable[[], np.ndarray]:
    """Loop over the channels; each is back-projected by compiled code on all cores."""
    from algotom.rec import reconstruction

    width = sinograms.shape[2]
    options: dict[str, Any] = {"angles": theta, "filter_name": None, "apply_log": False}
    options |= {"gpu": False, "ratio": None, "pad": width, "pad_mode": "constant"}

    def work() -> np.ndarray:
        center = (width - 1) / 2
        images = [reconstruction.fbp_reconstruction(one, center, **options) for one in sinograms]
        return np.stack(images, axis=-1)

    return work


def tomopy_gridrec(theta: Float64, sinograms: np.ndarray, workers: int) -> Callable[[], np.ndarray]:
    """Gridrec (a Fourier method, not a back-projection) with the ramp filter, all channels."""
    import tomopy

    projections = np.ascontiguousarray(np.moveaxis(sinograms, 0, 1))
    options = {"center": (sinograms.shape[2] - 1) / 2, "ncore": workers}

    def work() -> np.ndarray:
        found = tomopy.recon(
            projections, theta, algorithm="gridrec", filter_name="ramlak", **options
        )
        return np.moveaxis(found, 0, -1)

    return work

"""Run Open3D in a separate process: ``python -m bixt3d.viz.open3d_process render|show JOB.npz``.

If a driver or a library is missing, Open3D ends its process instead of raising an error. It also prints to the
terminal, and creates threads and GPU contexts that should not be in a process with PyTorch.
"""

import sys
from typing import Any

import numpy as np

_FINE, _MANY = 2500, 6000  # numbers of points: up to the first, spheres are fine; above the second, coarse


def render(job: Any) -> None:
    """Render the clouds of a job with the camera of ``clouds.frame``, every point as a small sphere.

    Colors are exact on the lit side of a sphere, and darker on the other.
    """
    import open3d

    size = 2 * int(job["size"])  # anti-aliasing: rendered twice as large, then the mean of 2 x 2 pixels
    renderer = open3d.visualization.rendering.OffscreenRenderer(size, size)
    renderer.scene.set_background([1.0, 1.0, 1.0, 1.0])
    renderer.scene.view.set_post_processing(False)  # it would change the colors
    material = open3d.visualization.rendering.MaterialRecord()
    material.shader = "defaultUnlit"
    camera = np.diag([1.0, -1.0, -1.0, 1.0])  # Open3D's axes are right, down, away
    camera[2, 3] = 5.0
    images = []
    for place in range(int(job["num"])):
        points, rgb, (right, high), half = (job[f"{name}{place}"] for name in ("points", "rgb", "middle", "half"))
        scale = size / (2 * half)
        lens = np.array([[5 * scale, 0, size / 2 - right * scale], [0, 5 * scale, size / 2 + high * scale], [0, 0, 1]])
        renderer.scene.clear_geometry()
        renderer.scene.add_geometry("cloud", _balls(points, rgb), material)
        renderer.setup_camera(lens, camera, size, size)
        image = np.asarray(renderer.render_to_image())
        images.append(image.reshape(size // 2, 2, size // 2, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8))
    np.save(str(job["out"]), np.stack(images))


def _balls(points: np.ndarray, rgb: np.ndarray) -> Any:
    import open3d

    num = len(points)
    ball = open3d.geometry.TriangleMesh.create_sphere(1.0, 6 if num <= _FINE else 4 if num <= _MANY else 3)
    corners, faces = np.asarray(ball.vertices), np.asarray(ball.triangles)
    radius = np.clip(0.8 / num**0.5, 0.005, 0.06)
    light = np.clip(0.75 + corners @ (-0.2, 0.45, 0.35), 0.55, 1.0)  # from above, a little from the left
    # not open3d.geometry.TriangleMesh: of that, Open3D 0.20 renders triangles with wrong corners
    mesh = open3d.t.geometry.TriangleMesh(
        _tensor((points[:, None] + radius * corners).reshape(-1, 3), np.float32),
        _tensor((faces + len(corners) * np.arange(num)[:, None, None]).reshape(-1, 3), np.int32),
    )
    mesh.vertex.colors = _tensor((rgb[:, None] * light[:, None]).reshape(-1, 3), np.float32)
    return mesh


def _tensor(array: np.ndarray, kind: Any) -> Any:
    import open3d

    return open3d.core.Tensor(array.astype(kind))


def show(job: Any) -> None:
    """Open a window with the point sets of a job, and wait until it is closed; the list of names is the legend."""
    import open3d

    up = "yz".index(str(job["up"]))
    material = open3d.visualization.rendering.MaterialRecord()
    material.shader, material.sRGB_color, material.point_size = "defaultUnlit", True, 7.0
    shown = []
    for place, name in enumerate(job["names"]):
        cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(job[f"points{place}"].astype(np.float64)))
        cloud.colors = open3d.utility.Vector3dVector(job[f"rgb{place}"].astype(np.float64))
        shown.append({"name": f"{place + 1:02d} {name}", "geometry": cloud, "material": material})
    corners = np.concatenate([job[f"points{place}"] for place in range(len(shown))])
    middle, radius = (corners.max(axis=0) + corners.min(axis=0)) / 2, np.ptp(corners, axis=0).max()
    eye = middle + radius * np.array([[0.5, 0.6, 1.3], [0.5, -1.3, 0.6]])[up]
    open3d.visualization.draw(
        shown,
        title=str(job["title"]),
        show_ui=True,
        bg_color=(1.0, 1.0, 1.0, 1.0),
        show_skybox=False,
        lookat=middle,
        eye=eye,
        up=np.eye(3)[1 + up],
    )


if __name__ == "__main__":
    with np.load(sys.argv[2]) as job:
        {"render": render, "show": show}[sys.argv[1]](job)

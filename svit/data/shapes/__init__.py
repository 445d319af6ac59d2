"""The synthetic world: closed shapes among clutter with the same contrast and colours, as COCO folders.

A scene is a ground of textured regions, clutter that is no closed class shape (strokes, arcs,
specks, lobed and blurred blobs, lattices), and 1 to 8 objects of eight classes with exact visible
masks. Neither local contrast nor an unusual colour betrays an object: clutter has crisp edges too,
and an object takes colours near the image's mean that still differ from the ground right around it.

A scene is a function of its seed alone, and a COCO image id *is* that seed: `scene(image_id)` draws
the picture again. Bytes are the same for one release of numpy and Pillow; others may differ.

    outlines    the eight classes as polygons        materials   colours and textures
    scenery     the ground and its clutter           scenes      a whole scene, with its masks
    moving      scenes in motion, frame by frame     writer      COCO folders of scenes
    sheet       what is in them, to look at
"""

from svit.data.shapes.moving import Frame, film
from svit.data.shapes.outlines import CLASSES
from svit.data.shapes.scenes import Scene, scene
from svit.data.shapes.sheet import contact_sheet
from svit.data.shapes.writer import VAL_SEEDS, VERSION, ShapesError, read_scenes, write_dataset

__all__ = [
    "CLASSES",
    "Frame",
    "VAL_SEEDS",
    "VERSION",
    "Scene",
    "ShapesError",
    "contact_sheet",
    "film",
    "read_scenes",
    "scene",
    "write_dataset",
]

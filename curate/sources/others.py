"""Files that curate does not read: what each is, and the line that makes a file of it that is read.

Knows endings. The lines are Python of the library that wrote such a file, for its user has it.
"""

from pathlib import Path

from curate.files.reading import ending

_PANDAS = 'python -c "import pandas; pandas.{read}({name!r}).to_csv({csv!r}, index=False)"'
_FRAMES = {
    (".xlsx", ".xls", ".xlsm", ".ods"): ("a spreadsheet", "read_excel"),
    (".pkl", ".pickle"): ("a pickle, which can run any code", "read_pickle"),
    (".h5", ".hdf5", ".hdf"): ("HDF5", "read_hdf"),
    (".dta",): ("of Stata", "read_stata"),
    (".sav",): ("of SPSS", "read_spss"),
    (".sas7bdat", ".xpt"): ("of SAS", "read_sas"),
    (".orc",): ("ORC", "read_orc"),
}
_OTHERS = {
    (".arff",): "It is ARFF: scipy.io.arff.loadarff reads it; save its columns as .csv.",
    (".mat",): "It is of MATLAB: numpy.savez('data.npz', x=..., y=...) of what scipy.io.loadmat gives.",
    (".libsvm", ".svm", ".svmlight"): "It is of libsvm: numpy.savez('data.npz', x=x.toarray(), y=y) of what "
    "sklearn.datasets.load_svmlight_file gives.",
    (".tfrecord", ".tfrecords"): "It is of TensorFlow: write its examples as .parquet, or pictures in class folders.",
    (".sqlite", ".sqlite3", ".db"): "It is a database: sqlite3 -header -csv FILE 'select ...' > rows.csv.",
    (".wav", ".mp3", ".flac", ".ogg", ".m4a"): "It is sound: save features of it as .npz (x, y).",
    (".mp4", ".avi", ".mov", ".mkv", ".webm"): "It is video: save its frames, or features of it as .npz (x, y).",
    (".rar", ".7z"): "It is packed: unpack it, and name the folder.",
    (".pdf", ".docx", ".doc"): "Save its rows as a .csv.",
}
SOUNDS = (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".mp4", ".avi", ".mov")


def way_to_read(path: Path) -> str:
    """What to do with a file of a kind that is not read; blank for one that nothing is known of."""
    kind = ending(path)
    for kinds, (what, read) in _FRAMES.items():
        if kind in kinds:
            line = _PANDAS.format(read=read, name=path.as_posix(), csv=path.with_suffix(".csv").as_posix())
            return f"It is {what}: {line}"
    return next((way for kinds, way in _OTHERS.items() if kind in kinds), "")


def way_of_folder(root: Path) -> str:
    """What to do with a folder in which nothing that is read was found; blank if nothing is known of it."""
    names = [path.name for path in sorted(root.rglob("*"))[:5000] if path.is_file()]
    if any(name.endswith(("-ubyte", "-ubyte.gz")) for name in names):
        return "These are files of MNIST: torchvision:MNIST:FOLDER (or FashionMNIST ...) reads FOLDER/MNIST/raw/."
    if any(name.startswith("data_batch") for name in names):
        return f"These are batches of CIFAR-10: torchvision:CIFAR10:{root.resolve().parent.as_posix()} reads them."
    if any(name.lower().endswith(SOUNDS) for name in names):
        return "Sound and video are not read: save features of them as .npz (x, y), or give python:FILE.py:NAME."
    if "saved_model.pb" in names:
        return "This is a model of TensorFlow, no data."
    return ""

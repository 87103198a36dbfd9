"""Small HDF5 files for the tests of the readers."""

import h5py


def write_hdf5(path, groups=None, **datasets):
    """Write datasets, a value or (value, attributes) each, and the attributes of groups."""
    with h5py.File(path, "w") as file:
        for name, given in datasets.items():
            values, attrs = given if isinstance(given, tuple) else (given, {})
            dataset = file.create_dataset(name.replace("__", "/"), data=values)
            dataset.attrs.update(attrs)
        for name, attrs in (groups or {}).items():
            file.require_group(name).attrs.update(attrs)
    return path

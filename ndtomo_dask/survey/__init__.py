"""A survey of a scan: what its file and a sample of its data say, each answer with its evidence."""

from ndtomo_dask.survey.finding import Finding
from ndtomo_dask.survey.report import Survey, survey_scan

__all__ = ["Finding", "Survey", "survey_scan"]

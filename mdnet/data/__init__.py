"""Data: studies and label spaces, readers, images, vocabulary, preprocessing, the synthetic tissue.

Only what needs neither torch nor transformers is loaded here; `mdnet.data.text`,
`mdnet.data.preprocessing` and `mdnet.data.loading` are imported by name.
"""

from mdnet.data.readers import FORMATS, read_studies
from mdnet.data.study import Aspect, Fault, LabelSpace, Study, StudySet

__all__ = ["FORMATS", "Aspect", "Fault", "LabelSpace", "Study", "StudySet", "read_studies"]

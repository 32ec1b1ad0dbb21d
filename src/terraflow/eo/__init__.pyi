from terraflow.eo.built_in import Classification as Classification
from terraflow.eo.features.indices import add_indices as add_indices
from terraflow.eo.features.time.composites import percentile as percentile
from terraflow.eo.features.time.composites import statistic as statistic
from terraflow.eo.features.windows import FeatureSource as FeatureSource
from terraflow.eo.images.collection import read_items as read_items
from terraflow.eo.models.apply import apply_model as apply_model
from terraflow.eo.models.model import load_model as load_model
from terraflow.eo.project import OpenProject as OpenProject
from terraflow.eo.project import Project as Project
from terraflow.eo.project import open_project as open_project
from terraflow.eo.samples.draw import pixel_table as pixel_table
from terraflow.eo.samples.preprocess import read_report as read_report
from terraflow.eo.steps import run_up_to as run_up_to
from terraflow.eo.targets.area.zonal import mean_per_area as mean_per_area
from terraflow.eo.targets.figures import map_figure as map_figure
from terraflow.eo.targets.numbers import Numbers as Numbers
from terraflow.eo.targets.parts import Band as Band
from terraflow.eo.targets.target import Target as Target
from terraflow.serving.client import ask as ask

EXPORTS: dict[str, str]

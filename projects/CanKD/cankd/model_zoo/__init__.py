from .model_zoo import get_config, get_config_file

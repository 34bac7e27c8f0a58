"""What experiments are made of: networks of many replicas, their training, their instruments."""

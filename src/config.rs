//! Reads and checks meshscope.yaml.

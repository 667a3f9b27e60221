"""The contract between the programs: .proto sources, generated modules, codecs."""

"""What tests share: a world of topics and workers, model servers, models."""

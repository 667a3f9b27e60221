"""The loop: windows go from the source through the model to the delivery, in order."""

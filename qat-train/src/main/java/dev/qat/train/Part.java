package dev.qat.train;

/** Which of a run's training windows a stage uses: all, the user's text alone, or the model's own samples alone. */
public enum Part { ALL, TEXT, SAMPLES }

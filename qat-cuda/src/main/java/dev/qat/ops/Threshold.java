package dev.qat.ops;

/**
 * How a group of ternary weights finds its scale and the edge of its dead zone from the weights themselves.
 *
 * <pre>
 * ABSMEAN  scale = mean |w|,             edge = scale / 2       (BitNet b1.58, arXiv 2402.17764; Tequila, arXiv 2509.23809)
 * TWN      edge = ¾ mean |w|,            scale = mean of |w| where |w| ≥ edge, 0 where none is       (arXiv 1605.04711)
 * MEDIAN   scale = median |w| (the lower one of two), edge = scale / 2
 * QUADS    scale = Σ |w| of the three largest of every four / (¾ G), edge = 0       (Sherry)
 * </pre>
 */
public enum Threshold { ABSMEAN, TWN, MEDIAN, QUADS }

/**
 * Judges: what a language model is worth, measured through {@link dev.qat.data.CausalLm} alone, so that the project's own model
 * and an exported file run by somebody else's engine stand before the same ones.
 *
 * <p>{@link dev.qat.eval.Perplexity} by a {@link dev.qat.eval.Protocol}, {@link dev.qat.eval.MultipleChoice} on a
 * {@link dev.qat.eval.Task}, and in {@link dev.qat.eval.Statistics} how sure either is.
 */
package dev.qat.eval;

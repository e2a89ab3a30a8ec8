/**
 * Files and tokens: what a model, a text and a token are on disk, and nothing about how they are computed with.
 *
 * <p>Weights: {@link dev.qat.data.Safetensors}, {@link dev.qat.data.SafetensorsWriter}, {@link dev.qat.data.HfModelDir},
 * {@link dev.qat.data.HfModelWriter}. Text: {@link dev.qat.data.TextFiles}, {@link dev.qat.data.Tokenizer},
 * {@link dev.qat.data.ByteLevelTokenizer}. Tokens: {@link dev.qat.data.TokenShards}, {@link dev.qat.data.Windows}. Every file
 * the project writes goes through {@link dev.qat.data.AtomicFile}.
 */
package dev.qat.data;

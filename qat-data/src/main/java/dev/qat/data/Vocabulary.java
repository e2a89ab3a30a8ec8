package dev.qat.data;

/**
 * What stored tokens must agree on with the model that reads them: the tokenizer and the number of ids.
 *
 * @param tokenizerSha256 SHA-256 of tokenizer.json, in hex (see {@link Tokenizer#vocabulary})
 * @param size            ids are 0 to size − 1: the model's vocab_size, padding included
 */
public record Vocabulary(String tokenizerSha256, int size) {
    /** SHA-256 over both, the 32 bytes that token files carry. */
    byte[] fingerprint() {
        return new Sha256().add(tokenizerSha256).add(size).bytes();
    }
}

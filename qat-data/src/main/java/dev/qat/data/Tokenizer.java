package dev.qat.data;

import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import com.fasterxml.jackson.databind.JsonNode;
import dev.qat.tensor.Fail;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.GZIPInputStream;
import java.util.zip.ZipException;

/**
 * Text to token ids and back, by a model's own {@code tokenizer.json} and the Hugging Face library.
 *
 * <p>A text of any length is encoded as one string, never truncated or padded. Special tokens written out inside a text
 * ({@code </s>}) become their ids, as in Hugging Face. Safe to share between threads, which take turns.
 */
public final class Tokenizer implements AutoCloseable {
    // In modified UTF-8 a char takes up to 3 bytes, and JNI counts the bytes of a string in an int.
    private static final int MAX_CHARS = 1 << 28;

    private final TokenizersLibrary library = TokenizerLibrary.get();
    private final Path file;
    private final String sha256;
    private final TokenizerVocabulary vocabulary;
    private final int bos;
    private final int[] eos;
    private final boolean addsBos;
    private long handle;

    private Tokenizer(Path file, byte[] json) {
        this.file = file;
        this.sha256 = new Sha256().add(MemorySegment.ofArray(json)).hex();
        JsonNode root = Json.object(file, json);
        Path dir = file.toAbsolutePath().getParent();
        Path configFile = dir.resolve("tokenizer_config.json");
        JsonNode config = Files.isRegularFile(configFile) ? Json.object(configFile) : Json.MAPPER.createObjectNode();
        this.vocabulary = new TokenizerVocabulary(file, root);
        SpecialIds declared = SpecialIds.of(dir);
        this.bos = vocabulary.bos(config, root, declared);
        this.eos = vocabulary.eos(config, declared);
        this.addsBos = bos >= 0 && config.path("add_bos_token").asBoolean(true);
        this.handle = create(json);
    }

    /** Opens {@code tokenizer.json} in a model directory, or such a file itself (also gzipped, {@code .gz}). */
    public static Tokenizer of(Path dirOrFile) {
        Path file = Files.isDirectory(dirOrFile) ? dirOrFile.resolve("tokenizer.json") : dirOrFile;
        if (!Files.isRegularFile(file)) {
            throw Fail.data("%s: no such file; copy the model's tokenizer.json there (a model that has only tokenizer.model "
                    + "gets one from transformers' AutoTokenizer.from_pretrained(..).save_pretrained(..))", file);
        }
        try (InputStream in = Files.newInputStream(file)) {
            byte[] json = (file.toString().endsWith(".gz") ? new GZIPInputStream(in) : in).readAllBytes();
            return new Tokenizer(file, json);
        } catch (ZipException | EOFException e) {
            throw Fail.data("%s: damaged gzip file (%s); restore the original", file, AtomicFile.why(e));
        } catch (IOException e) {
            throw Fail.io(e, "%s: cannot read: %s; check its permissions", file, AtomicFile.why(e));
        }
    }

    private long create(byte[] json) {
        try {
            long created = library.createTokenizerFromString(new String(json, StandardCharsets.UTF_8));
            // tokenizer.json itself may ask for either.
            library.disableTruncation(created);
            library.disablePadding(created);
            return created;
        } catch (RuntimeException e) {
            throw Fail.data("%s: the tokenizers library cannot read it: %s; restore the original file", file, e.getMessage());
        }
    }

    /** The ids of a text, no special token added.   ids (T) */
    public synchronized int[] encode(String text) {
        checkText(text);
        long encoding;
        try {
            encoding = library.encode(open(), text, false);
        } catch (RuntimeException e) {
            throw Fail.data("%s: cannot encode a text of %d characters: %s", file, text.length(), e.getMessage());
        }
        try {
            long[] wide = library.getTokenIds(encoding);
            int[] ids = new int[wide.length];
            for (int i = 0; i < ids.length; i++) ids[i] = Math.toIntExact(wide[i]);
            return ids;
        } finally {
            library.deleteEncoding(encoding);
        }
    }

    /** {@link #encode} with exactly one BOS before it, where the tokenizer has one and does not forbid it (add_bos_token). */
    public int[] encodeWithBos(String text) {
        int[] ids = encode(text);
        if (!addsBos) return ids;
        int[] with = new int[ids.length + 1];
        with[0] = bos;
        System.arraycopy(ids, 0, with, 1, ids.length);
        return with;
    }

    /** The text of ids, special tokens left out; ids that form no whole UTF-8 character become U+FFFD. */
    public synchronized String decode(int[] ids) {
        long[] wide = new long[ids.length];
        for (int i = 0; i < ids.length; i++) {
            if (ids[i] < 0) throw Fail.data("%s: cannot decode token id %d, expected 0 or more", file, ids[i]);
            wide[i] = ids[i];
        }
        try {
            return library.decode(open(), wide, true);
        } catch (RuntimeException e) {
            throw Fail.data("%s: cannot decode %d token ids: %s", file, ids.length, e.getMessage());
        }
    }

    /**
     * The id that begins a text, −1 if there is none; the first to speak decides: tokenizer_config.json (null means none),
     * tokenizer.json's template, generation_config.json, config.json.
     */
    public int bos() {
        return bos;
    }

    /** The ids that end a text: generation_config.json's, else config.json's, else tokenizer_config.json's eos_token. */
    public int[] eos() {
        return eos.clone();
    }

    /** One more than the largest id; a model's vocabulary may be padded beyond it. */
    public int size() {
        return vocabulary.size();
    }

    /** A token as the vocabulary spells it ({@code ▁the}, {@code Ġthe}, {@code <0x0A>}); empty for an id nobody uses. */
    public String token(int id) {
        return vocabulary.token(id);
    }

    /** What token files must agree on: this tokenizer, and a model that has room for {@code modelSize} ids. */
    public Vocabulary vocabulary(int modelSize) {
        if (modelSize < size()) {
            throw Fail.data("%s: has ids up to %d but the model's vocab_size is %d; tokenizer and model do not belong together",
                    file, size() - 1, modelSize);
        }
        return new Vocabulary(sha256, modelSize);
    }

    @Override
    public synchronized void close() {
        if (handle != 0) library.deleteTokenizer(handle);
        handle = 0;
    }

    private long open() {
        Fail.unless(handle != 0, "%s: the tokenizer is used after close", file);
        return handle;
    }

    /** Half a surrogate pair is no character; the library would quietly encode something else. */
    private void checkText(String text) {
        if (text.length() > MAX_CHARS) {
            throw Fail.data("a text of %d characters is longer than %d; split it into documents", text.length(), MAX_CHARS);
        }
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (!Character.isSurrogate(c)) continue;
            boolean pair = Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1));
            if (!pair) throw Fail.data("the text has half a character (surrogate U+%04X) at position %d; repair its encoding", (int) c, i);
            i++;
        }
    }
}

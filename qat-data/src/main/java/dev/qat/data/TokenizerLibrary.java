package dev.qat.data;

import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Loads the Hugging Face tokenizers library (Rust) that DJL's jar carries, its CPU build, without DJL's own loader.
 *
 * <p>DJL's loader looks for a GPU and, if it finds one, downloads another build; its {@code HuggingFaceTokenizer} asks the
 * cloud's metadata service who we are and reports home, truncates at 512 tokens, and keeps a cache in the home folder. None
 * of that code is reached here: the library is copied out of the jar to a temporary file, loaded, and the file removed.
 */
final class TokenizerLibrary {
    // Kept instead of thrown: a failed class initializer would hide the sentence behind NoClassDefFoundError.
    private static final Fail PROBLEM = load();

    private TokenizerLibrary() {}

    static TokenizersLibrary get() {
        if (PROBLEM != null) throw PROBLEM;
        return TokenizersLibrary.LIB;
    }

    private static Fail load() {
        String name = System.mapLibraryName("tokenizers");
        String resource = "/native/lib/" + platform() + "/cpu/" + name;
        try (InputStream in = TokenizersLibrary.class.getResourceAsStream(resource)) {
            if (in == null) {
                return Fail.device("the tokenizer library has no build for %s (looked for %s in its jar); use Linux x86-64",
                        platform(), resource);
            }
            Path folder = Files.createTempDirectory("qat-tokenizers");
            Path file = folder.resolve(name);
            try {
                Files.copy(in, file);
                System.load(file.toString());
                return null;
            } finally {
                // The mapping outlives the name, so nothing is left behind even if the process is killed later.
                Files.deleteIfExists(file);
                Files.deleteIfExists(folder);
            }
        } catch (IOException e) {
            return Fail.io(e, "cannot unpack the tokenizer library into %s: %s; give a writable folder with -Djava.io.tmpdir=...",
                    System.getProperty("java.io.tmpdir"), AtomicFile.why(e));
        } catch (UnsatisfiedLinkError e) {
            return Fail.io(e, "cannot load the tokenizer library from %s: %s; if that folder forbids executing (noexec), "
                    + "give another with -Djava.io.tmpdir=...", System.getProperty("java.io.tmpdir"), e.getMessage());
        }
    }

    /** The folder name of this machine in DJL's jar, such as linux-x86_64. */
    private static String platform() {
        String os = System.getProperty("os.name"), arch = System.getProperty("os.arch");
        return (os.startsWith("Mac") ? "osx" : os.startsWith("Win") ? "win" : os.toLowerCase())
                + "-" + (arch.equals("amd64") ? "x86_64" : arch);
    }
}

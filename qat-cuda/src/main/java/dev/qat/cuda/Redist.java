package dev.qat.cuda;

import dev.qat.tensor.Fail;
import java.io.IOException;
import java.net.URL;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.bytedeco.javacpp.Loader;

/**
 * NVIDIA's libraries from the class path, for machines that have only the driver: the Maven profile {@code cuda-redist} puts
 * org.bytedeco:cuda there. Loaded before JCuda asks for them by name, they are what it then finds.
 */
public final class Redist {
    static final String FOLDER = "org/bytedeco/cuda/linux-x86_64/";
    /** What needs another stands behind it. */
    static final List<String> LIBRARIES = List.of("libcublasLt.so.12", "libcublas.so.12", "libnvrtc-builtins.so.12.6", "libnvrtc.so.12");

    private Redist() {}

    /** Loads those that are there; without the profile, none is. */
    public static void load() {
        for (Path library : unpacked(Redist.class.getClassLoader())) System.load(library.toString());
    }

    /** The libraries that a class path holds, as files in JavaCPP's cache. */
    static List<Path> unpacked(ClassLoader classes) {
        List<Path> files = new ArrayList<>();
        for (String name : LIBRARIES) {
            URL there = classes.getResource(FOLDER + name);
            if (there == null) continue;
            try {
                files.add(Loader.cacheResource(there).toPath());
            } catch (IOException e) {
                throw Fail.io(e, "cannot unpack %s into JavaCPP's cache: %s. Free some space there, or name another folder with -Dorg.bytedeco.javacpp.cachedir.", name, e);
            }
        }
        return files;
    }
}

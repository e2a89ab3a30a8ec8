package dev.qat.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.jar.JarOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RedistTest {
    @TempDir
    Path temp;

    @Test
    void librariesOfAJarBecomeFilesInTheOrderTheyNeedOneAnother() throws Exception {
        Path jar = temp.resolve("cuda-redist.jar");
        try (JarOutputStream out = new JarOutputStream(Files.newOutputStream(jar))) {
            for (String name : Redist.LIBRARIES.reversed()) {
                out.putNextEntry(new JarEntry(Redist.FOLDER + name));
                out.write(name.getBytes());
            }
        }
        try (URLClassLoader classes = new URLClassLoader(new URL[] {jar.toUri().toURL()}, null)) {
            List<Path> files = Redist.unpacked(classes);
            assertEquals(Redist.LIBRARIES, files.stream().map(f -> f.getFileName().toString()).toList());
            for (Path f : files) assertArrayEquals(f.getFileName().toString().getBytes(), Files.readAllBytes(f));
        }
    }

    @Test
    void withoutTheProfileThereIsNothing() throws Exception {
        try (URLClassLoader none = new URLClassLoader(new URL[0], null)) {
            assertEquals(List.of(), Redist.unpacked(none));
        }
    }
}

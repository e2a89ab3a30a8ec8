package dev.qat.data;

import dev.qat.tensor.Fail;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** A running SHA-256 over texts, numbers and memory; each text carries its length, so parts cannot run together. */
public final class Sha256 {
    private static final int CHUNK = 1 << 26;

    private final MessageDigest digest;

    public Sha256() {
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw Fail.internal("this JDK has no SHA-256 (%s); every conforming JDK does", e.getMessage());
        }
    }

    public Sha256 add(String text) {
        byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
        add(utf8.length);
        digest.update(utf8);
        return this;
    }

    public Sha256 add(long number) {
        digest.update(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(number).flip());
        return this;
    }

    /** Adds native memory or a byte array. */
    public Sha256 add(MemorySegment bytes) {
        for (long at = 0; at < bytes.byteSize(); at += CHUNK) {
            digest.update(bytes.asSlice(at, Math.min(CHUNK, bytes.byteSize() - at)).asByteBuffer());
        }
        return this;
    }

    public byte[] bytes() {
        return digest.digest();
    }

    public String hex() {
        return HexFormat.of().formatHex(bytes());
    }
}

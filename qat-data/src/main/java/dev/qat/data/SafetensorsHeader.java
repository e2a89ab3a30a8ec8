package dev.qat.data;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import dev.qat.data.Safetensors.Entry;
import dev.qat.tensor.Fail;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The head of a safetensors file, checked before a byte of data is believed.
 *
 * <p>u64 little-endian length N; N bytes of JSON {@code {"name":{"dtype":..,"shape":[..],"data_offsets":[begin,end]}, ..}};
 * then the data, which the tensors cover exactly: in order, no hole, no overlap. The JSON is read as a stream, so a hostile
 * header costs memory in proportion to its own length (at most 100 MB, and never more than the file holds).
 */
final class SafetensorsHeader {
    static final long MAX_BYTES = 100_000_000;
    private static final int MAX_DIMS = 32;
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    // Interned names would outlive the parser, and a flood of colliding ones makes Jackson throw; names are read plainly.
    private static final JsonFactory JSON = new JsonFactoryBuilder()
            .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
            .disable(JsonFactory.Feature.INTERN_FIELD_NAMES)
            .disable(JsonFactory.Feature.CANONICALIZE_FIELD_NAMES).build();

    private final Path file;
    final List<Entry> entries = new ArrayList<>();
    final Map<String, String> metadata = new LinkedHashMap<>();
    /** Where the data begins in the file. */
    final long dataStart;

    SafetensorsHeader(Path file, MemorySegment bytes) {
        this.file = file;
        long length = headerLength(bytes);
        dataStart = 8 + length;
        byte[] json = bytes.asSlice(8, length).toArray(ValueLayout.JAVA_BYTE);
        if (json[0] != '{') throw corrupt("the header begins with byte %d, expected '{'", json[0] & 0xff);
        try (JsonParser p = JSON.createParser(json)) {
            p.nextToken();
            readTensors(p);
            if (p.nextToken() != null) throw corrupt("text follows the header's closing brace");
        } catch (JsonProcessingException e) {
            throw corrupt("the header is not valid JSON (%s)", Json.brief(e));
        } catch (IOException e) {
            throw corrupt("the header is unreadable (%s)", AtomicFile.why(e));
        }
        checkCover(bytes.byteSize() - dataStart);
    }

    private long headerLength(MemorySegment bytes) {
        long size = bytes.byteSize();
        if (size < 10) throw corrupt("%d bytes long, expected at least 10", size);
        long length = bytes.get(LONG, 0);
        long most = Math.min(MAX_BYTES, size - 8);
        if (length < 2 || length > most) {
            throw corrupt("header length is %s, expected 2 to %d for a file of %d bytes",
                    Long.toUnsignedString(length), most, size);
        }
        return length;
    }

    private void readTensors(JsonParser p) throws IOException {
        while (p.nextToken() == JsonToken.FIELD_NAME) {
            String name = p.currentName();
            if (p.nextToken() != JsonToken.START_OBJECT) throw corrupt("entry %s is not an object", shown(name));
            if (name.equals("__metadata__")) readMetadata(p);
            else entries.add(readEntry(p, name));
        }
    }

    private void readMetadata(JsonParser p) throws IOException {
        while (p.nextToken() == JsonToken.FIELD_NAME) {
            String key = p.currentName();
            if (p.nextToken() != JsonToken.VALUE_STRING) throw corrupt("__metadata__ %s is not a text", shown(key));
            metadata.put(key, p.getText());
        }
    }

    private Entry readEntry(JsonParser p, String name) throws IOException {
        StoredType dtype = null;
        long[] shape = null, offsets = null;
        while (p.nextToken() == JsonToken.FIELD_NAME) {
            String key = p.currentName();
            p.nextToken();
            switch (key) {
                case "dtype" -> dtype = readDtype(p, name);
                case "shape" -> shape = readLongs(p, name, key, MAX_DIMS);
                case "data_offsets" -> offsets = readLongs(p, name, key, 2);
                default -> throw corrupt("tensor %s has the unknown key %s", shown(name), shown(key));
            }
        }
        if (dtype == null || shape == null || offsets == null || offsets.length != 2) {
            throw corrupt("tensor %s lacks dtype, shape or two data_offsets", shown(name));
        }
        Entry entry = new Entry(name, dtype, shape, offsets[0], offsets[1]);
        checkSize(entry);
        return entry;
    }

    private StoredType readDtype(JsonParser p, String name) throws IOException {
        String text = p.currentToken() == JsonToken.VALUE_STRING ? p.getText() : "not a text";
        for (StoredType d : StoredType.values()) if (d.name().equals(text)) return d;
        throw corrupt("tensor %s has dtype %s, expected one of %s", shown(name), shown(text), List.of(StoredType.values()));
    }

    private long[] readLongs(JsonParser p, String name, String key, int most) throws IOException {
        if (p.currentToken() != JsonToken.START_ARRAY) throw corrupt("%s of tensor %s is not a list", key, shown(name));
        long[] numbers = new long[most];
        int n = 0;
        while (p.nextToken() != JsonToken.END_ARRAY) {
            if (p.currentToken() != JsonToken.VALUE_NUMBER_INT || n == most) {
                throw corrupt("%s of tensor %s is not a list of at most %d whole numbers", key, shown(name), most);
            }
            numbers[n] = p.getLongValue();
            if (numbers[n++] < 0) throw corrupt("%s of tensor %s has a negative number", key, shown(name));
        }
        return Arrays.copyOf(numbers, n);
    }

    private void checkSize(Entry e) {
        long expected = e.dtype().bytes();
        try {
            for (long d : e.shape()) expected = Math.multiplyExact(expected, d);
        } catch (ArithmeticException _) {
            throw corrupt("the shape of tensor %s has more than 2^63 bytes", shown(e.name()));
        }
        if (e.end() - e.begin() != expected) {
            throw corrupt("tensor %s spans bytes %d to %d, expected %d bytes for its dtype and shape",
                    shown(e.name()), e.begin(), e.end(), expected);
        }
    }

    private void checkCover(long dataBytes) {
        entries.sort(Comparator.comparingLong(Entry::begin).thenComparingLong(Entry::end));
        long at = 0;
        for (Entry e : entries) {
            if (e.begin() != at) {
                throw corrupt("tensor %s begins at data byte %d, expected %d (no holes, no overlap)", shown(e.name()), e.begin(), at);
            }
            at = e.end();
        }
        if (at != dataBytes) throw corrupt("the tensors cover %d data bytes but the file holds %d", at, dataBytes);
    }

    private Fail corrupt(String format, Object... args) {
        return Fail.data("%s: %s; the file is truncated or damaged: copy, download or export it again",
                file, format.formatted(args));
    }

    /** A name from the file, cut so that a hostile one cannot flood the screen. */
    private static String shown(String name) {
        return name.length() <= 120 ? name : name.substring(0, 120) + "...";
    }
}

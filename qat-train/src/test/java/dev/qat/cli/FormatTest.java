package dev.qat.cli;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

import static org.junit.jupiter.api.Assertions.assertEquals;

class FormatTest {
    @ParameterizedTest
    @CsvSource({"0, 0", "412, 412", "999, 999", "0.5, 0.5", "1000, 1.0k", "39800, 39.8k", "999949, 999.9k", "999950, 1.0M",
        "7.2e9, 7.2B", "1.5e12, 1.5T", "2e15, 2000.0T", "-39800, -39.8k", "NaN, NaN"})
    void counts(double n, String text) {
        assertEquals(text, Format.count(n));
    }

    @ParameterizedTest
    @CsvSource({"0, 0 B", "1023, 1023 B", "1024, 1.0 KiB", "1536, 1.5 KiB", "1048575, 1.0 MiB", "23950000000, 22.3 GiB",
        "9223372036854775807, 8192.0 PiB"})
    void bytes(long n, String text) {
        assertEquals(text, Format.bytes(n));
    }

    @ParameterizedTest
    @CsvSource({"0, 0.0 ms", "0.0042, 4.2 ms", "0.412, 412 ms", "0.9996, 1.0 s", "12.34, 12.3 s", "59.96, 1m00s", "80, 1m20s",
        "3599.6, 1h00m", "7500, 2h05m", "86399, 23h59m", "273600, 3d04h", "-1, ?", "NaN, ?", "Infinity, ?"})
    void durations(double seconds, String text) {
        assertEquals(text, Format.duration(seconds));
    }

    @ParameterizedTest
    @CsvSource({"1e-5, 1.0e-05", "3.14e-4, 3.1e-04", "0, 0.0e+00"})
    void scientific(double x, String text) {
        assertEquals(text, Format.scientific(x));
    }

    @ParameterizedTest
    @CsvSource({"0.314, 31%", "1, 100%"})
    void percent(double share, String text) {
        assertEquals(text, Format.percent(share));
        assertEquals("2.3412", Format.fixed(2.34117, 4));
    }
}

package dev.qat.cli;

import java.util.Locale;

/** Numbers as people read them, the same on every machine whatever its locale. */
public final class Format {
    private static final String[] THOUSANDS = {"", "k", "M", "B", "T"};
    private static final String[] KIBI = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};

    private Format() {}

    /** {@code 412}, {@code 39.8k}, {@code 7.2B}: tokens, parameters, operations. */
    public static String count(double n) {
        int power = 0;
        double rest = n;
        // 999.95 and up would print as 1000.0, so it already belongs to the next unit
        while (Math.abs(rest) >= (power == 0 ? 1000 : 999.95) && power < THOUSANDS.length - 1) {
            rest /= 1000;
            power++;
        }
        boolean whole = power == 0 && rest == Math.rint(rest);
        return fixed(rest, whole ? 0 : 1) + THOUSANDS[power];
    }

    /** {@code 512 B}, {@code 1.5 KiB}, {@code 22.3 GiB}. */
    public static String bytes(long n) {
        int power = 0;
        double rest = n;
        while (Math.abs(rest) >= (power == 0 ? 1024 : 1023.95) && power < KIBI.length - 1) {
            rest /= 1024;
            power++;
        }
        return fixed(rest, power == 0 ? 0 : 1) + " " + KIBI[power];
    }

    /** {@code 412 ms}, {@code 12.3 s}, {@code 1m20s}, {@code 2h05m}, {@code 3d04h}. */
    public static String duration(double seconds) {
        if (!Double.isFinite(seconds) || seconds < 0) return "?";
        if (seconds < 0.0095) return fixed(seconds * 1e3, 1) + " ms";
        if (seconds < 0.9995) return fixed(seconds * 1e3, 0) + " ms";
        if (seconds < 59.95) return fixed(seconds, 1) + " s";
        long s = Math.round(seconds), minutes = s / 60, hours = minutes / 60;
        if (s < 3600) return two("%dm%02ds", minutes, s % 60);
        if (hours < 24) return two("%dh%02dm", hours, minutes % 60);
        return two("%dd%02dh", hours / 24, hours % 24);
    }

    /** A learning rate or another small number: {@code 1.0e-05}. */
    public static String scientific(double x) {
        return String.format(Locale.ROOT, "%.1e", x);
    }

    /** A share of one as a percentage: {@code 31%}. */
    public static String percent(double share) {
        return fixed(share * 100, 0) + "%";
    }

    /** With so many digits after the point: {@code fixed(2.34117, 4)} is {@code 2.3412}. */
    public static String fixed(double x, int digits) {
        return String.format(Locale.ROOT, "%." + digits + "f", x);
    }

    private static String two(String format, long large, long small) {
        return String.format(Locale.ROOT, format, large, small);
    }
}

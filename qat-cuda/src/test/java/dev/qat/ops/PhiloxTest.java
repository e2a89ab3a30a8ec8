package dev.qat.ops;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class PhiloxTest {
    @Test
    void givesThePublishedAnswersOfPhilox4x32With10Rounds() {
        assertArrayEquals(new int[] {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}, block(0, 0, 0, 0, 0, 0));
        assertArrayEquals(new int[] {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1},
                block(0xA4093822, 0x299F31D0, 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344));
    }

    /** The four words at a counter, the first and last part of which are the two halves of a block's number. */
    private static int[] block(int k0, int k1, int c0, int c1, int c2, int c3) {
        long number = (long) c3 << 32 | Integer.toUnsignedLong(c0);
        int[] words = new int[4];
        for (int i = 0; i < 4; i++) words[i] = Philox.word(k0, k1, number << 2 | i, c1, c2);
        return words;
    }

    @Test
    void aWordIsAFloatFromZeroToJustBelowOne() {
        assertEquals(0f, Philox.unit(0));
        assertEquals(0f, Philox.unit(0xFF));
        assertEquals(0x1p-24f, Philox.unit(0x100));
        assertEquals(Math.nextDown(1f), Philox.unit(-1));
    }

    @Test
    void uniformAndNormalNumbersHaveTheirMoments() {
        int n = 40_000;
        double u = 0, uu = 0, z = 0, zz = 0;
        for (int i = 0; i < n; i++) {
            double a = Philox.uniform(42, i, 1, 2), b = Philox.normal(42, i, 3, 4);
            u += a / n;
            uu += a * a / n;
            z += b / n;
            zz += b * b / n;
        }
        assertEquals(0.5, u, 0.01);
        assertEquals(1.0 / 3, uu, 0.01);
        assertEquals(0, z, 0.03);
        assertEquals(1, zz, 0.03);
    }

    @Test
    void everyPartOfTheCounterAndOfTheSeedMatters() {
        float base = Philox.uniform(1, 1, 1, 1);
        assertTrue(base != Philox.uniform(2, 1, 1, 1) && base != Philox.uniform(1 + (1L << 32), 1, 1, 1));
        assertTrue(base != Philox.uniform(1, 2, 1, 1) && base != Philox.uniform(1, 5, 1, 1) && base != Philox.uniform(1, 1 + (1L << 34), 1, 1));
        assertTrue(base != Philox.uniform(1, 1, 2, 1) && base != Philox.uniform(1, 1, 1, 2));
    }
}

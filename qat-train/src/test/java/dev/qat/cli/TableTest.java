package dev.qat.cli;

import dev.qat.cli.Table.Look;
import dev.qat.tensor.Fail;
import org.junit.jupiter.api.Test;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

class TableTest {
    private final Table table = new Table(Table.text("model"), Table.number("bits"), Table.number("perplexity"))
            .row("full precision", 16, "5.4721").row("lsq", 4, "12.0310");

    @Test
    void boxes() {
        assertEquals("""
                ┌────────────────┬──────┬────────────┐
                │ model          │ bits │ perplexity │
                ├────────────────┼──────┼────────────┤
                │ full precision │   16 │     5.4721 │
                │ lsq            │    4 │    12.0310 │
                └────────────────┴──────┴────────────┘
                """, table.render(Look.BOX, 80));
    }

    @Test
    void plain() {
        assertEquals("""
                model           bits  perplexity
                --------------  ----  ----------
                full precision    16      5.4721
                lsq                4     12.0310
                """, table.render(Look.PLAIN, 80));
    }

    @Test
    void textIsCutToTheWidthAndNumbersNever() {
        assertEquals("""
                model     bits  perplexity
                --------  ----  ----------
                full ...    16      5.4721
                lsq          4     12.0310
                """, table.render(Look.PLAIN, 26));
        assertTrue(table.render(Look.BOX, 34).lines().allMatch(line -> line.length() == 34));
        assertTrue(table.render(Look.PLAIN, 10).contains("ful...    16      5.4721"));
    }

    @Test
    void rowsMustFitTheColumns() {
        assertThrows(Fail.class, () -> table.row("one"));
    }
}

package dev.qat.train;

import dev.qat.data.Windows;
import dev.qat.method.GroupAffine;
import dev.qat.model.Linear;
import dev.qat.model.Model;
import dev.qat.ops.Backend;
import dev.qat.ops.Ops;
import dev.qat.tensor.PackedWeight;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** What the stages of a run share: the student, its full-precision teacher, the windows, and the codes made so far. */
public final class Run {
    private final Recipe recipe;
    private final Backend backend;
    private final Model student, teacher;
    private final TrainingSet data;
    private final Watch watch;
    private final Metrics metrics;
    private final double peak;
    private final Plan plan;
    private final Map<Linear, PackedWeight> packed = new LinkedHashMap<>();
    /** Allocations behind the codes in use. */
    private final List<Long> owned = new ArrayList<>();

    Run(Recipe recipe, Backend backend, Model student, Model teacher, TrainingSet data, Watch watch, Metrics metrics, double peak) {
        this(recipe, backend, student, teacher, data, watch, metrics, peak, null);
    }

    private Run(Recipe recipe, Backend backend, Model student, Model teacher, TrainingSet data, Watch watch, Metrics metrics, double peak, Plan plan) {
        this.recipe = recipe;
        this.backend = backend;
        this.student = student;
        this.teacher = teacher;
        this.data = data;
        this.watch = watch;
        this.metrics = metrics;
        this.peak = peak;
        this.plan = plan;
    }

    /** A run on shapes alone: every loop notes what one of its steps costs, and does none. */
    static Run planned(Recipe recipe, Backend shape, Model student, Model teacher, TrainingSet data, Plan plan) {
        return new Run(recipe, shape, student, teacher, data, Watch.NOBODY, null, Double.NaN, plan);
    }

    /** Where costs are noted when nothing is to be done; null in a run that works. */
    Plan plan() {
        return plan;
    }

    public Recipe recipe() {
        return recipe;
    }

    public Backend backend() {
        return backend;
    }

    public Model student() {
        return student;
    }

    public Model teacher() {
        return teacher;
    }

    /** The training windows a stage asks for. */
    public Windows windows(Part part) {
        return data.part(part);
    }

    public Watch watch() {
        return watch;
    }

    public Metrics metrics() {
        return metrics;
    }

    /** Operations per second of a large product on this backend, the "peak" that progress lines compare with. */
    public double peak() {
        return peak;
    }

    /** The codes of every linear quantized so far. */
    public Map<Linear, PackedWeight> packed() {
        return packed;
    }

    /** From here on the weights of these linears, frozen together, are their codes times steps. */
    public void use(List<GroupAffine> quantizers, List<PackedWeight> codes) {
        for (int i = 0; i < codes.size(); i++) {
            PackedWeight p = codes.get(i);
            Linear linear = quantizers.get(i).linear();
            packed.put(linear, p);
            linear.weightSite.clear();
            linear.weightSite.add((t, w) -> Ops.dequantize(t, p, p.step()));
            owned.add(p.words().address);
            owned.add(p.zero().address);
        }
        owned.add(codes.getFirst().step().address);
    }

    /** Forgets all codes: the sites are empty and the weights are the masters again. */
    public void reset() {
        student.blocks().forEach(b -> b.clearSites());
        owned.forEach(backend.memory()::free);
        owned.clear();
        packed.clear();
    }

    /** Writes what the codes stand for into the weights, and empties the sites: the plain model that computes the same. */
    public void bake() {
        packed.forEach((linear, codes) -> {
            backend.dequantize(linear.weight.value(), codes, codes.step());
            linear.weightSite.clear();
        });
    }
}

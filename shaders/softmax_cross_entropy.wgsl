// Softmax cross entropy with its gradient, in one pass over the logits Z, in place:
//
//   loss[b] = log Σ_c exp(Z[b,c]) - Z[b,label]      Z[b,c] = (softmax(Z[b])[c] - [c = label]) / batch
//
// and the sums over the rows of this launch of the losses, and of the rows whose highest logit (the
// first of equal ones) is the label's.
//
// An index or a label past the last takes the last: nothing outside the buffers is read, whatever they hold.
//
// One workgroup computes everything, an invocation every 256th row: the sums need no second launch, and
// their order depends on the sizes alone.
//
// Buffers:
//   labels  [count], looked up by order
//   order   [batch]
//   logits  Z, [batch, classes]; rows begin to end are read and written
//   sums    [2]: losses, rows classified right; added to what it holds where `add` is 1
//   params  the struct below

const WORKGROUP_SIZE: u32 = 256u;

struct Params {
    batch: u32,
    classes: u32,
    count: u32,
    begin: u32,
    end: u32,
    add: u32,
}

@group(0) @binding(0) var<storage, read_write> labels: array<u32>;
@group(0) @binding(1) var<storage, read_write> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> params: Params;

var<workgroup> partial: array<vec2<f32>, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2<f32>();
    for (var b = params.begin + lane; b < params.end; b += WORKGROUP_SIZE) {
        let row = b * params.classes;
        let label = min(labels[min(order[b], params.count - 1u)], params.classes - 1u);
        var highest = 0u;
        var most = logits[row];
        for (var c = 1u; c < params.classes; c++) {
            let logit = logits[row + c];
            if (logit > most) {
                highest = c;
                most = logit;
            }
        }
        let own = logits[row + label];
        var total = 0.0;
        for (var c = 0u; c < params.classes; c++) {
            let part = exp(logits[row + c] - most);
            logits[row + c] = part;
            total += part;
        }
        for (var c = 0u; c < params.classes; c++) {
            let one = select(0.0, 1.0, c == label);
            logits[row + c] = (logits[row + c] / total - one) / f32(params.batch);
        }
        sum += vec2<f32>(log(total) + (most - own), select(0.0, 1.0, highest == label));
    }
    partial[lane] = sum;
    workgroupBarrier();
    if (lane == 0u) {
        var total = vec2<f32>();
        for (var i = 0u; i < WORKGROUP_SIZE; i++) {
            total += partial[i];
        }
        if (params.add != 0u) {
            total += vec2<f32>(sums[0], sums[1]);
        }
        sums[0] = total.x;
        sums[1] = total.y;
    }
}

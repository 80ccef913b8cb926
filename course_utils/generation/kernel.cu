// A text of one model, character after character, in one kernel that never leaves the GPU.
//
// Sixteen blocks, a cluster, share a model of width 256. Eight of them have a head of each
// attention layer, with its keys and values in their shared memory; eight have an eighth of each
// feed-forward layer. While one half works, the other fetches its next weights, bf16, from the L2
// cache. What a block computes of a sublayer is its part of the whole output, 256 numbers; it sends
// them to all sixteen, and each adds up what arrives. That is all that they exchange: the residual
// stream, the norms, the logits and the draw are computed by every block alike.
//
// Matrix times vector is done by tensor cores: mma multiplies 16 x 16 weights by 16 x 8 numbers.
// The eight columns are the one vector, in turn rounded to bf16 and what the rounding left out, so
// that the sum of two neighbours is as good as fp32's. All four lanes of a row get it.
//
// LAYERS, CONTEXT and VOCABULARY are given when this is compiled, for the model at hand, and so is
// EMBEDDING_NEAR: whether the embedding has room in SHARED bytes too, beside keys and values.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short bf16;
#define INFINITY __int_as_float(0x7f800000)

constexpr int HEADS = 8, BLOCKS = 2 * HEADS, WIDTH = 256, HEAD = WIDTH / HEADS;
constexpr int HIDDEN = 4 * WIDTH / HEADS;          // a block's share of a feed-forward layer
constexpr int WARPS = WIDTH / 32;                  // a thread for each channel of the stream
constexpr int TILES = CONTEXT / 16;                // of positions
constexpr int OURS = (TILES + WARPS - 1) / WARPS;  // of these, one warp's
constexpr int CHOICES = (VOCABULARY + 31) / 32;    // characters that a lane draws from
constexpr int QKV_TILES = 3 * HEAD / 16, LOGIT_TILES = (VOCABULARY + 15) / 16;
constexpr int APART = 32;  // so that a vector and its remainder lie in other banks
// How many 16-byte pieces a block's matrices have, 32 to a tile of 16 x 16 weights.
constexpr int QKV = 2 * QKV_TILES * WIDTH, OUT = WIDTH / 8 * HEAD;
constexpr int UP = HIDDEN / 8 * WIDTH, DOWN = UP;
enum Sublayer { ATTENTION, FEED_FORWARD };

struct Shared {
    union {
        struct {  // of attention
            uint4 keys[LAYERS][TILES][2][32];    // tiles of 16 positions x 16 channels
            uint4 values[LAYERS][TILES][2][32];  // and of 16 channels x 16 positions
        };
        uint4 next[UP + DOWN];  // of a feed-forward layer: its weights
    };
    float arrived[3][HEADS][WIDTH];      // for the stream, from each block of a half
    bf16 stream[2][WIDTH + APART], hidden[2][HIDDEN + APART], query[2][HEAD + APART];
    float seen[WARPS][HEAD];             // a warp's share of the attention's output, unnormed,
    float best[WARPS], mass[WARPS];      // its highest score, and the sum of its weights
    float2 moments[WARPS];               // sums of the stream and of its squares
    float logits[16 * LOGIT_TILES], luck[32 * CHOICES];
    float above[WARPS][32 * CHOICES], below[WARPS][32 * CHOICES];  // of each character, by a warp
    u64 full[2], fetched;  // barriers: complete when all has arrived
};

extern __shared__ __align__(128) unsigned char memory[];
constexpr int EMBEDDING = EMBEDDING_NEAR ? VOCABULARY * WIDTH : 0;
static_assert(sizeof(Shared) + EMBEDDING * sizeof(float) <= SHARED, "more than a block is given");

__device__ u32 address(const void *p) { return (u32)__cvta_generic_to_shared(p); }

__device__ float sum_of_lanes(float x) {
    for (int n = 16; n; n /= 2) x += __shfl_xor_sync(~0u, x, n);
    return x;
}

__device__ float largest_of_lanes(float x) {
    for (int n = 16; n; n /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, n));
    return x;
}

// Two numbers rounded to bf16, a in the lower half; and what that left out.
__device__ u32 rounded(float a, float b) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(b), "f"(a));
    return both;
}
__device__ u32 remainder(float a, float b, u32 both) {
    return rounded(a - __uint_as_float(both << 16), b - __uint_as_float(both & 0xffff0000u));
}
__device__ void put(bf16 *vector, int apart, float x) {  // both, each in its row
    u32 main = rounded(x, 0);
    vector[0] = (bf16)main;
    vector[apart] = (bf16)remainder(x, 0, main);
}

// Loads that stand where they are written: early, so that their wait falls into other work.
template <int N> __device__ void load(uint4 *to, const uint4 *from) {
#pragma unroll
    for (int i = 0; i < N; i++)
        asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[i].x), "=r"(to[i].y), "=r"(to[i].z), "=r"(to[i].w)
                     : "l"(from + 32 * i));
}

__device__ void multiply(float (&sum)[4], uint4 a, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// ROWS tiles of weights, N in all, times a vector: this lane's two numbers of each tile of rows.
template <int ROWS, int N>
__device__ void product(float (&y)[ROWS][2], const uint4 (&weights)[N], const bf16 *vector) {
    constexpr int COLUMNS = N / ROWS, CHAINS = 4 / ROWS;  // so that none waits for itself
    float sum[ROWS][CHAINS][4] = {};
#pragma unroll
    for (int j = 0; j < COLUMNS; j += 2) {
        uint4 x = *(const uint4 *)(vector + 16 * j);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            multiply(sum[i][j % CHAINS], weights[i * COLUMNS + j], x.x, x.y);
            multiply(sum[i][(j + 1) % CHAINS], weights[i * COLUMNS + j + 1], x.z, x.w);
        }
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        y[i][0] = y[i][1] = 0;
#pragma unroll
        for (int j = 0; j < CHAINS; j++) {
            y[i][0] += sum[i][j][0] + sum[i][j][1];
            y[i][1] += sum[i][j][2] + sum[i][j][3];
        }
    }
}

__device__ void expect(u64 *barrier, u32 bytes = sizeof(float) * HEADS * WIDTH) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                 ::"r"(address(barrier)), "r"(bytes) : "memory");
}

__device__ void wait(u64 *barrier, u32 parity) {
    for (u32 done = 0; !done;)
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
                     "selp.u32 %0, 1, 0, p; }"
                     : "=r"(done) : "r"(address(barrier)), "r"(parity) : "memory");
}

// Four numbers to the same place in another block; its barrier counts the bytes.
__device__ void send(u32 block, float4 *to, u64 *barrier, const float (&y)[2][2]) {
    u32 there, count;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address(to)), "r"(block));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(count) : "r"(address(barrier)), "r"(block));
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 "
                 "[%0], {%1, %2, %3, %4}, [%5];"
                 ::"r"(there), "f"(y[0][0]), "f"(y[0][1]), "f"(y[1][0]), "f"(y[1][1]), "r"(count)
                 : "memory");
}

__device__ void meet() {  // all blocks
    asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
}

// A copy of whole matrices, which asks nothing of the threads meanwhile.
__device__ void copy(void *to, const uint4 *from, u32 bytes, u64 *barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];"
                 ::"r"(address(to)), "l"(from), "r"(bytes), "r"(address(barrier)) : "memory");
}

__device__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Where channel d of the position p of a tile stands: see packed_keys, packed_values in kernel.py.
__device__ int key_place(int d, int p) {
    int lane = p % 8 * 4 + d / 8;
    return (d / 4 % 2 * 32 + lane) * 8 + d / 2 % 2 * 4 + p / 8 * 2 + d % 2;
}
__device__ int value_place(int d, int p) {
    int lane = d % 8 * 4 + p % 4;
    return (d / 16 * 32 + lane) * 8 + p / 4 % 2 * 4 + d / 8 % 2 * 2 + p / 8;
}

__device__ float gelu(float x) { return 0.5f * x * (1 + erff(x * 0.70710678f)); }

// What PyTorch's exponential_ draws there: -log of a uniform number of cuRAND's Philox4_32_10.
__device__ float exponential(u64 seed, u64 offset, u32 index) {
    u32 c0 = (u32)offset, c1 = (u32)(offset >> 32), c2 = index, c3 = 0;
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        u32 high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        u32 high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    float uniform = c0 * 2.3283064e-10f + 2.3283064e-10f / 2;
    return uniform >= 1 - 5.9604645e-8f ? 5.9604645e-8f : -__logf(uniform);
}

// What temperature, top-k and top-p leave of the logits z, as lesson 6 does it: each lane has those
// of the characters lane, lane + 32, …, and what is left out becomes -infinity.
__device__ void filter(Shared &s, float (&z)[CHOICES], int warp, int lane, float temperature,
                       int top_k, float top_p) {
    float best = -INFINITY, mass = 0;
    for (int i = 0; i < CHOICES; i++) best = fmaxf(best, z[i]);
    best = largest_of_lanes(best);
    auto tempered = [&](float z) {
        return temperature ? (z - best) / temperature : z == best ? 0 : -INFINITY;
    };
    for (int i = 0; i < CHOICES; i++) mass += expf(z[i] = tempered(z[i]));
    if (!top_k && top_p >= 1) return;
    mass = sum_of_lanes(mass);

    // First how many are above each character, and what mass is below: each warp asks some.
    float above[CHOICES] = {}, below[CHOICES] = {}, dropped = 0;
    for (int c = warp; c < VOCABULARY; c += WARPS) {
        float other = tempered(s.logits[c]), its = expf(other);
        for (int i = 0; i < CHOICES; i++) {
            above[i] += other > z[i];
            below[i] += other < z[i] || (other == z[i] && c <= lane + 32 * i) ? its : 0;
        }
    }
    for (int i = 0; i < CHOICES; i++) {
        s.above[warp][lane + 32 * i] = above[i];
        s.below[warp][lane + 32 * i] = below[i];
    }
    __syncthreads();
    for (int i = 0; i < CHOICES; i++) {
        above[i] = below[i] = 0;
        for (int w = 0; w < WARPS; w++) {
            above[i] += s.above[w][lane + 32 * i];
            below[i] += s.below[w][lane + 32 * i];
        }
        // Those that tie with the k-th stay.
        if (top_k && above[i] >= top_k) dropped += expf(z[i]), z[i] = -INFINITY;
    }
    // Then what is not needed for p: what is below, the character with it, is 1 - p at most.
    dropped = sum_of_lanes(dropped);
    mass -= dropped;
    for (int i = 0; i < CHOICES; i++)
        if (top_p < 1 && z[i] < 0 && below[i] - dropped <= (1 - top_p) * mass) z[i] = -INFINITY;
}

// The next character, drawn from logits in shared memory. PyTorch lets probabilities race, each
// divided by an exponential number; logits race as well, each plus its luck, the logarithm of that,
// and what would make them probabilities need not be known. Every warp finds the same.
__device__ int draw(Shared &s, int warp, int lane, float temperature, int top_k, float top_p) {
    float z[CHOICES];
    for (int i = 0; i < CHOICES; i++) {
        int c = lane + 32 * i;
        z[i] = c < VOCABULARY ? s.logits[c] : -INFINITY;
    }
    if (top_k || top_p < 1 || temperature == 0)
        filter(s, z, warp, lane, temperature, top_k, top_p);
    else
        for (int i = 0; i < CHOICES; i++) z[i] = __fdividef(z[i], temperature);

    float lead = -INFINITY;
    int winner = 0;
    for (int i = 0; i < CHOICES; i++) {
        float its = z[i] + s.luck[lane + 32 * i];
        if (its > lead) lead = its, winner = lane + 32 * i;
    }
    u32 order = __float_as_uint(lead);  // whole numbers in the same order can be compared at once
    order ^= order >> 31 ? ~0u : 1u << 31;
    u32 ahead = __ballot_sync(~0u, order == __reduce_max_sync(~0u, order));
    return __shfl_sync(~0u, winner, __ffs(ahead) - 1);
}

// Write n characters after tokens[0], which stands at position `length` of the text.
//
// attention: a block's QKV and OUT pieces, feed_forward: its UP and DOWN, [layer][block]; head:
// LOGIT_TILES x 16 tiles. sums: of each row of the matrices behind a norm: [layer][block][3 HEAD],
// [layer][block][HIDDEN], the head's. cache: keys and values as Shared has them, [block]. tokens:
// n + 1. logits: of the last character. The seed and the offset are a Philox generator's.
extern "C" __global__ void __cluster_dims__(BLOCKS, 1, 1) __launch_bounds__(WIDTH, 1)
write(const uint4 *attention, const uint4 *feed_forward, const uint4 *head, const float *sums,
      const float *embedding, const float *positions, uint4 *cache, long long *tokens,
      float *logits, int length, int n, double temperature, int top_k, double top_p, int seed_low,
      int seed_high, int offset_low, int offset_high) {
    Shared &s = *(Shared *)memory;
    const int channel = threadIdx.x, warp = channel / 32, lane = channel % 32;
    const int row = lane / 4, column = lane % 4, other = row % 2;  // other: the remainder's column
    const int block = blockIdx.x % HEADS;
    const Sublayer role = blockIdx.x < HEADS ? ATTENTION : FEED_FORWARD;
    const u64 seed = (u64)(u32)seed_high << 32 | (u32)seed_low;
    const u64 offset = (u64)(u32)offset_high << 32 | (u32)offset_low;

    // Where this lane's part of each matrix and vector lies, and the block's of the cache.
    const int size = role ? UP + DOWN : QKV + OUT, rows = role ? HIDDEN : 3 * HEAD;
    const uint4 *weights = (role ? feed_forward : attention) + block * size + lane;
    const int r = 16 * warp + row + 8 * (column % 2);  // its row: columns 0 and 1 take one each
    const float *row_sums = sums + (role ? LAYERS * HEADS * 3 * HEAD : 0) + block * rows + r;
    const bf16 *stream = s.stream[other] + 8 * column, *hidden = s.hidden[other] + 8 * column;

    constexpr int PIECES = LAYERS * TILES * 2 * 32;
    cache += block * 2 * PIECES;

    // Weights for the next products. Those of a feed-forward layer come by way of shared memory.
    uint4 first[16], second[16], logit_weights[16];
    float row_sum, logit_sum;
    u32 parity = 0;
    auto ask_for = [&](int layer) {
        if (channel) return;
        expect(&s.fetched, sizeof(s.next));
        copy(s.next, weights + layer * HEADS * size - lane, sizeof(s.next), &s.fetched);
    };
    auto fetch = [&](int layer) {
        if (r < rows) row_sum = row_sums[layer * HEADS * rows];
        if (role == ATTENTION) {
            const uint4 *here = weights + layer * HEADS * size;
            if (warp < QKV_TILES) load<16>(first, here + 512 * warp);
            load<4>(second, here + QKV + 128 * warp);
        } else {
            wait(&s.fetched, parity);
            for (int i = 0; i < 16; i++) {
                first[i] = s.next[512 * warp + 32 * i + lane];
                second[i] = s.next[UP + 512 * warp + 32 * i + lane];
            }
        }
    };
    float x, mean, scale;
    auto publish = [&] {  // the stream, for products; its norm is applied to what they give
        put(&s.stream[0][channel], WIDTH + APART, x);
        float sum = sum_of_lanes(x), squares = sum_of_lanes(x * x);
        if (lane == 0) s.moments[warp] = make_float2(sum, squares);
        __syncthreads();
    };
    auto find_norm = [&] {
        float sum = 0, squares = 0;
        for (int i = 0; i < WARPS; i++) sum += s.moments[i].x, squares += s.moments[i].y;
        mean = sum / WIDTH;
        scale = rsqrtf(squares / WIDTH - mean * mean + 1e-5f);
    };
    // A block has two places for what its own half sends, in turn: it reads the one while others,
    // who need not wait for that, send to the next.
    auto share = [&](const float (&y)[2][2]) {
        for (int i = 0; i < BLOCKS / 4; i++) {
            int to = column + 4 * i;
            int place = role == (to < HEADS ? ATTENTION : FEED_FORWARD) ? parity : 2;
            send(to, (float4 *)&s.arrived[place][block][32 * warp + 4 * row], &s.full[role], y);
        }
    };
    auto receive = [&](Sublayer from) {
        wait(&s.full[from], parity);
        if (channel == 0) expect(&s.full[from]);
        for (int i = 0; i < HEADS; i++) x += s.arrived[role == from ? parity : 2][i][channel];
    };

    // First the barriers, the keys and values of the text so far, the first weights.
    if (channel == 0)
        for (u64 *barrier : {&s.full[0], &s.full[1], &s.fetched})
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(barrier)));
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    meet();
    if (channel == 0) {
        expect(&s.full[0]);
        expect(&s.full[1]);
        if (role == ATTENTION) {
            expect(&s.fetched, sizeof(s.keys) + sizeof(s.values));
            copy(s.keys, cache, sizeof(s.keys) + sizeof(s.values), &s.fetched);
        }
    }
    if (role == FEED_FORWARD) ask_for(0);
    if (role == ATTENTION) wait(&s.fetched, 0);
    fetch(0);
    if (warp < LOGIT_TILES) {
        load<16>(logit_weights, head + 512 * warp + lane);
        logit_sum = sums[LAYERS * HEADS * (3 * HEAD + HIDDEN) + r];
    }

    float *near = (float *)(memory + sizeof(Shared));
    for (int i = channel; i < EMBEDDING; i += WIDTH) near[i] = embedding[i];
    if (EMBEDDING_NEAR) embedding = near;

    int token = (int)tokens[0];
    float position = positions[length * WIDTH + channel];
    for (int done = 0; done < n; done++, length++) {
        x = embedding[token * WIDTH + channel] + position;
        if (role == ATTENTION) publish();
        auto prepare = [&] {  // what the draw and the next character will want
            if (channel < 32 * CHOICES)
                s.luck[channel] = -__logf(exponential(seed, offset + done, channel));
            if (length + 1 < CONTEXT) position = positions[(length + 1) * WIDTH + channel];
        };

        for (int layer = 0; layer < LAYERS; layer++) {
            const bool last = layer + 1 == LAYERS;
            if (role == FEED_FORWARD) {
                if (last) prepare();
                receive(ATTENTION);
                publish();
                ask_for(last ? 0 : layer + 1);
                float y[1][2], z[2][2];
                product(y, first, stream);
                find_norm();
                float h = gelu(scale * ((column % 2 ? y[0][1] : y[0][0]) - mean * row_sum));
                if (column < 2) put(&s.hidden[0][r], HIDDEN + APART, h);
                __syncthreads();
                product(z, second, hidden);
                share(z);
                receive(FEED_FORWARD);
                parity ^= 1;
                fetch(last ? 0 : layer + 1);
                continue;
            }

            // Query, key and value of this position.
            float y[1][2];
            if (warp < QKV_TILES) {
                product(y, first, stream);
                find_norm();
                float z = scale * ((column % 2 ? y[0][1] : y[0][0]) - mean * row_sum);
                int d = r % HEAD, p = length % 16;
                if (column < 2 && r < HEAD) put(&s.query[0][d], HEAD + APART, z);
                if (column < 2 && r >= HEAD) {
                    bool key = r < 2 * HEAD;
                    int place = key ? key_place(d, p) : value_place(d, p);
                    uint4 *tile = (key ? s.keys : s.values)[layer][length / 16][0];
                    bf16 value = (bf16)rounded(z, 0);
                    ((bf16 *)tile)[place] = value;
                    ((bf16 *)(cache + (tile - &s.keys[0][0][0][0])))[place] = value;
                }
            }
            __syncthreads();

            // Attention: each warp over its tiles of positions, with a softmax of its own.
            float score[OURS][2], best = -INFINITY, mass = 0;
            uint4 q = *(const uint4 *)(s.query[other] + 8 * column);
#pragma unroll
            for (int i = 0; i < OURS; i++) {
                int tile = warp + i * WARPS, place = 16 * tile + row;
                score[i][0] = score[i][1] = -INFINITY;
                if (16 * tile > length) continue;
                float a[4] = {}, b[4] = {};
                multiply(a, s.keys[layer][tile][0][lane], q.x, q.y);
                multiply(b, s.keys[layer][tile][1][lane], q.z, q.w);
                if (place <= length) score[i][0] = a[0] + a[1] + (b[0] + b[1]);
                if (place + 8 <= length) score[i][1] = a[2] + a[3] + (b[2] + b[3]);
                best = fmaxf(best, fmaxf(score[i][0], score[i][1]));
            }
            for (int m = 4; m < 32; m *= 2) best = fmaxf(best, __shfl_xor_sync(~0u, best, m));
            float a[4] = {}, b[4] = {};
#pragma unroll
            for (int i = 0; i < OURS; i++) {
                int tile = warp + i * WARPS;
                if (16 * tile > length) continue;
                float w0 = power_of_two(score[i][0] - best), w1 = power_of_two(score[i][1] - best);
                mass += w0 + w1;
                u32 both = rounded(w0, w1);
                if (column % 2) both = remainder(w0, w1, both);
                u32 b0 = __shfl_sync(~0u, both, 4 * column + other);
                u32 b1 = __shfl_sync(~0u, both, 4 * column + 16 + other);
                multiply(a, s.values[layer][tile][0][lane], b0, b1);
                multiply(b, s.values[layer][tile][1][lane], b0, b1);
            }
            for (int m = 4; m < 32; m *= 2) mass += __shfl_xor_sync(~0u, mass, m);
            if (column == 0) {
                s.seen[warp][row] = a[0] + a[1];
                s.seen[warp][row + 8] = a[2] + a[3];
                s.seen[warp][row + 16] = b[0] + b[1];
                s.seen[warp][row + 24] = b[2] + b[3];
            }
            if (lane == 0) s.best[warp] = best, s.mass[warp] = mass;
            __syncthreads();

            // The warps' softmaxes made one; lane d has channel d of the head's output.
            best = -INFINITY;
            for (int i = 0; i < WARPS; i++) best = fmaxf(best, s.best[i]);
            float o = 0, total = 0;
            for (int i = 0; i < WARPS; i++) {
                float weight = power_of_two(s.best[i] - best);
                o += weight * s.seen[i][lane];
                total += weight * s.mass[i];
            }
            o = __fdividef(o, total);
            float neighbour = __shfl_xor_sync(~0u, o, 1);
            float even = lane % 2 ? neighbour : o, odd = lane % 2 ? o : neighbour;
            u32 both = rounded(even, odd);
            if (lane % 2) both = remainder(even, odd, both);
            u32 v[4];
            for (int i = 0; i < 4; i++) v[i] = __shfl_sync(~0u, both, 8 * column + 2 * i + other);
            float z[2][2];
            for (int i = 0; i < 2; i++) {
                float a[4] = {}, b[4] = {};
                multiply(a, second[2 * i], v[0], v[1]);
                multiply(b, second[2 * i + 1], v[2], v[3]);
                z[i][0] = a[0] + a[1] + (b[0] + b[1]);
                z[i][1] = a[2] + a[3] + (b[2] + b[3]);
            }
            share(z);
            fetch(last ? 0 : layer + 1);
            if (last) prepare();
            receive(ATTENTION);
            receive(FEED_FORWARD);
            parity ^= 1;
            if (!last) publish();
        }

        // What comes next: every block finds the same.
        publish();
        if (warp < LOGIT_TILES) {
            float y[1][2];
            product(y, logit_weights, stream);
            find_norm();
            if (column < 2)
                s.logits[r] = scale * ((column % 2 ? y[0][1] : y[0][0]) - mean * logit_sum);
        }
        __syncthreads();
        token = draw(s, warp, lane, temperature, top_k, top_p);
        if (blockIdx.x == 0 && channel == 0) tokens[done + 1] = token;
    }
    if (blockIdx.x == 0 && channel < VOCABULARY) logits[channel] = s.logits[channel];
    meet();
}

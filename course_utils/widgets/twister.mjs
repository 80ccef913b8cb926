// PyTorch's random numbers on a CPU: MT19937 (Matsumoto and Nishimura, 1998), and what torch makes
// of its 32 bits. So the page draws the same weights and windows from a seed as the package.

const SIZE = 624;
const SHIFT = 397;

export class Twister {
  /** @param {number} seed its lower 32 bits count, as for torch.manual_seed */
  constructor(seed) {
    this.state = new Uint32Array(SIZE);
    this.state[0] = seed;
    for (let i = 1; i < SIZE; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(before, 1812433253) + i;
    }
    this.at = SIZE;
  }

  /** 32 random bits. */
  next() {
    if (this.at === SIZE) this.twist();
    let bits = this.state[this.at++];
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return (bits ^ (bits >>> 18)) >>> 0;
  }

  twist() {
    const { state } = this;
    for (let i = 0; i < SIZE; i++) {
      const joined = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
      state[i] = state[(i + SHIFT) % SIZE] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    this.at = 0;
  }

  /** A whole number from 0 to `most` - 1, as torch.randint draws it. */
  below(most) {
    return this.next() % most;
  }

  /** As torch.rand draws it: 24 bits. */
  uniform() {
    return (this.next() & 0xffffff) / 2 ** 24;
  }

  skip(count) {
    for (let i = 0; i < count; i++) this.next();
  }

  /**
   * Normal numbers, as Tensor.normal_ draws 16 or more: in sixteens, eight pairs by Box and Muller;
   * of a last sixteen that is not full, all are drawn again.
   * @param {Float32Array} into
   */
  normal(into, std) {
    const { length } = into;
    for (let i = 0; i < length; i++) into[i] = this.uniform();
    const whole = length - (length % 16);
    for (let at = 0; at < whole; at += 16) pairs(into.subarray(at, at + 16), std);
    if (whole === length) return;
    const last = into.subarray(length - 16);
    for (let i = 0; i < 16; i++) last[i] = this.uniform();
    pairs(last, std);
  }
}

/** Box and Muller (1958): a radius from one uniform number, an angle from another. */
function pairs(sixteen, std) {
  for (let i = 0; i < 8; i++) {
    const radius = std * Math.sqrt(-2 * Math.log(1 - sixteen[i]));
    const angle = 2 * Math.PI * sixteen[i + 8];
    sixteen[i] = radius * Math.cos(angle);
    sixteen[i + 8] = radius * Math.sin(angle);
  }
}

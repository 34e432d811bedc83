"""Random numbers as a pure function of (stream's seed, draw, position): Philox4x64-10 on every device.

Philox is the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011): ten
rounds of multiplications map a counter of four 64-bit words, under a key of two, to four random words. Here the key is
(seed, 0). Block b of draw d has the counter (b + 1, d, 0, 0), so no two draws of a stream share a word. Word w of a
draw is word w % 4 of block w // 4.

- `reference` computes it with torch operations on any device.
- `host` computes it with numpy's Philox in C, for CPUs.
- `kernel` computes it in one kernel on a GPU.
- `draws` selects among them.

Numbers of a draw by position p:

- uniform: the low 24 bits of half p % 2 of word p // 2, times 2^-24. So each 64-bit word gives two numbers in [0, 1).
- normal: Box and Muller's transform of the two halves of word p // 2, whose cosine is at even p and whose sine is at
  odd p. Values are at most sqrt(48 ln 2) = 5.77.
- integers in [0, high): floor(word p * high / 2^64), for high <= 2^31 (Lemire 2019, "Fast Random Integer Generation in
  an Interval", without the rejection). The probability of each value differs from 1 / high by less than 2^-64.

Integers and uniform numbers use exact operations only, so they are equal to the bit on all devices. Normal numbers
are equal up to the rounding of log, sin and cos.
"""

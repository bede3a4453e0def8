// SPDX-License-Identifier: MPL-2.0

package emf

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets are microseconds up to 8, then eighths of each power of two: a value is at most 1/16 from the middle of its bucket.
const (
	fineBits   = 3 // of a value that tell buckets apart
	fine       = 1 << fineBits
	maxBits    = 27 // 2^27 µs: 134 s, and everything above
	numBuckets = fine + (maxBits-fineBits)*fine
)

// Histogram counts durations, in fixed buckets: 800 bytes, whatever happens. It is safe for concurrent use and takes no lock. The zero
// value is empty.
type Histogram struct{ buckets [numBuckets]atomic.Uint32 }

// Observe counts one duration. A negative one counts as zero. It allocates nothing.
func (h *Histogram) Observe(d time.Duration) { h.buckets[bucketOf(d)].Add(1) }

// Drain empties the histogram and returns what was in it as values of a metric in milliseconds, in order, nil if it was empty. Each
// is within 1/16 of what was observed.
//
// Up to MaxValues, every observation is a value. More than that cannot be said in one record: then it is MaxValues
// of them, at even distances in their order, with the least and the greatest. Percentiles and the average stay what they were;
// the number of samples does not, and has to be a metric of its own where it matters.
//
// CloudWatch takes an object with arrays Values and Counts from AWS's own collector, which would say it all. The specification allows
// a metric to be a number or an array of numbers only.
func (h *Histogram) Drain() []float64 {
	var counts [numBuckets]uint32
	total := 0
	for i := range h.buckets {
		counts[i] = h.buckets[i].Swap(0)
		total += int(counts[i])
	}
	if total == 0 {
		return nil
	}
	values := make([]float64, 0, min(total, MaxValues))
	seen, bucket := 0, 0 // seen is the number of observations up to and with the bucket
	seen = int(counts[0])
	for i := range cap(values) {
		for rank := rankOf(i, cap(values), total); seen <= rank; seen += int(counts[bucket]) {
			bucket++
		}
		values = append(values, middleOf(bucket))
	}
	return values
}

// rankOf returns which of total observations, in order, is the ith of n values: all of them if n is total, else n evenly spread, with
// the first and the last.
func rankOf(i, n, total int) int {
	if n == 1 {
		return 0
	}
	return i * (total - 1) / (n - 1)
}

func bucketOf(d time.Duration) int {
	us := uint64(max(d, 0) / time.Microsecond)
	if us < fine {
		return int(us)
	}
	if us >= 1<<maxBits {
		return numBuckets - 1
	}
	shift := bits.Len64(us) - 1 - fineBits
	return fine + shift*fine + int(us>>shift) - fine
}

// middleOf returns the middle of a bucket in milliseconds.
func middleOf(bucket int) float64 {
	if bucket < fine {
		return float64(bucket) / 1000
	}
	shift := bucket/fine - 1
	low := uint64(fine+bucket%fine) << shift
	return (float64(low) + float64(uint64(1)<<shift)/2) / 1000
}

// SPDX-License-Identifier: MPL-2.0

package bench

// ballot is a gate and the ratios that were measured for it so far.
//
// A ratio of one round scatters by as much as what is to be noticed, so that its limit cannot be the answer to noise:
// repetition is. Each round votes, whether its ratio is above the limit. The side that is lead votes ahead has won, which is
// Wald's sequential test for a share of votes of either p or 1-p: it needs the fewest rounds on average, and errs in one of
// 1 + (p/(1-p))^lead runs. What is far from the limit takes lead rounds. What is at the limit takes mostRounds, and the
// majority decides: whether the median is above. An outlier has one vote.
type ballot struct {
	*gate
	limit  float64
	ratios []float64
}

const (
	lead       = 6  // for p = 0.1, a limit 1.3 standard deviations away, one error in 530,000; for 0.3 one in 160
	mostRounds = 25 // odd; bounds the time that a run takes
)

// decided reports whether no more rounds are needed.
func (b *ballot) decided() bool {
	ahead := b.ahead()
	return max(ahead, -ahead) >= lead || len(b.ratios) >= mostRounds
}

// within says, once it is decided, that the limit is kept.
func (b *ballot) within() bool { return b.ahead() < 0 }

// ahead is how many more rounds were above the limit than not.
func (b *ballot) ahead() int {
	n := 0
	for _, ratio := range b.ratios {
		if ratio > b.limit {
			n++
		} else {
			n--
		}
	}
	return n
}

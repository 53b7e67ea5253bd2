package flowcontrol

// maxHand is the largest hand that the API admits to make sense: with 60 bits
// of hash and two cards at least in the deck. A larger one is cut.
const maxHand = 60

// deal draws hand different numbers below deck, which the hash decides: each
// draw takes one digit of it. The result is in the order of the draw.
func deal(hash uint64, deck, hand int, into []int) []int {
	hand = min(hand, deck, maxHand)
	var drawn [maxHand]int // ascending
	into = into[:0]
	for i := range hand {
		left := uint64(deck - i)
		card := int(hash % left)
		hash /= left
		// card counts those that are left: step over the ones that are not.
		at := 0
		for at < i && card >= drawn[at] {
			card++
			at++
		}
		copy(drawn[at+1:i+1], drawn[at:i])
		drawn[at] = card
		into = append(into, card)
	}
	return into
}

// flowHash is FNV-1a over schema and distinguisher, mixed so that every digit
// depends on every byte.
func flowHash(schema, distinguisher string) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	for i := range len(schema) {
		h = (h ^ uint64(schema[i])) * prime
	}
	h *= prime // a separator that no name holds
	for i := range len(distinguisher) {
		h = (h ^ uint64(distinguisher[i])) * prime
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

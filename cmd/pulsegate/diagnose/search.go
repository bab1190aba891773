package diagnose

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
)

// claim is a way to read what the signature member says.
type claim struct {
	mac  []byte
	slip *Slip
}

// decode lists what bytes a signature may stand for.
func decode(signature string) []claim {
	var all []claim
	fields := strings.Fields(signature)
	if len(fields) == 0 {
		return nil
	}
	last := strings.TrimPrefix(fields[len(fields)-1], "0x")
	if mac, err := hex.DecodeString(last); err == nil {
		c := claim{mac: mac}
		if last != signature {
			c.slip = &Slip{Encoding, true, "the signature member holds more than the hexadecimal digits", "write the 64 hexadecimal digits and nothing else, as with openssl dgst -r | cut -c1-64"}
		}
		all = append(all, c)
	}
	text := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(last), "=")
	if mac, err := base64.RawStdEncoding.DecodeString(text); err == nil {
		slip := &Slip{Encoding, true, "the signature is in base64", "write the 32 bytes of the MAC as 64 hexadecimal digits"}
		all = append(all, claim{mac, slip})
		if inner, err := hex.DecodeString(string(mac)); err == nil {
			all = append(all, claim{inner, slip})
		}
	}
	return all
}

// algorithm makes a MAC, or what was taken for one.
type algorithm struct {
	name string
	size int
	sum  func(key, text []byte) []byte
}

func algorithms() []algorithm {
	with := func(name string, size int, h func() hash.Hash) algorithm {
		return algorithm{name, size, func(key, text []byte) []byte {
			m := hmac.New(h, key)
			m.Write(text)
			return m.Sum(nil)
		}}
	}
	digest := func(name string, input func(key, text []byte) []byte) algorithm {
		return algorithm{name, sha256.Size, func(key, text []byte) []byte {
			sum := sha256.Sum256(input(key, text))
			return sum[:]
		}}
	}
	return []algorithm{
		with("HMAC-SHA256", sha256.Size, sha256.New),
		with("HMAC-SHA1", sha1.Size, sha1.New),
		with("HMAC-SHA512", sha512.Size, sha512.New),
		with("HMAC-SHA384", sha512.Size384, sha512.New384),
		with("HMAC-SHA224", sha256.Size224, sha256.New224),
		with("HMAC-MD5", md5.Size, md5.New),
		digest("SHA256 of the key and the text", func(key, text []byte) []byte { return join(key, text) }),
		digest("SHA256 of the text and the key", func(key, text []byte) []byte { return join(text, key) }),
		digest("SHA256 of the text, without a key", func(_, text []byte) []byte { return text }),
	}
}

// secret is a key as it may have been used, and by which slips.
type secret struct {
	bytes []byte
	slips []Slip
}

func secrets(keys []Key) []secret {
	var all []secret
	for _, k := range keys {
		if k.InForce {
			all = append(all, k.forms()...)
			continue
		}
		other := Slip{OtherKey, true, "it was signed with " + k.Name, "give the device its own key that is in force"}
		all = append(all, secret{k.Secret, []Slip{other}}, secret{[]byte(hex.EncodeToString(k.Secret)), []Slip{other, keyAsText()}})
	}
	return append(all, secret{nil, []Slip{{WrongSecret, true, "the key was empty", "look where the key is read from: a variable or file may be missing"}}})
}

// forms are the ways in which a key, or its device's password, gets used.
func (k Key) forms() []secret {
	all := []secret{{bytes: k.Secret}}
	digits := hex.EncodeToString(k.Secret)
	for _, b := range []string{digits, strings.ToUpper(digits), digits + "\n", digits + "\x00", base64.StdEncoding.EncodeToString(k.Secret)} {
		all = append(all, secret{[]byte(b), []Slip{keyAsText()}})
	}
	if k.Password == "" {
		return all
	}
	password := []Slip{{WrongSecret, true, "the device's MQTT password was used as the key", "sign with the key, not with the MQTT password"}}
	all = append(all, secret{[]byte(k.Password), password})
	if b, err := hex.DecodeString(k.Password); err == nil {
		all = append(all, secret{b, password})
	}
	return all
}

func keyAsText() Slip {
	return Slip{KeyAsText, true, "the key was used as text, as it is written, not as the bytes that it stands for",
		"decode the hexadecimal digits first: bytes.fromhex in Python, -macopt hexkey: for openssl"}
}

// match is how a signature came about.
type match struct {
	claim     claim
	text      text
	secret    secret
	algorithm algorithm
}

func (m match) slips() []Slip {
	var all []Slip
	if m.claim.slip != nil {
		all = append(all, *m.claim.slip)
	}
	if m.algorithm.name != algorithms()[0].name {
		all = append(all, Slip{Algorithm, true, "it was made with " + m.algorithm.name, "sign with HMAC-SHA256"})
	}
	return append(append(all, m.secret.slips...), m.text.slips...)
}

// search tries the combinations and returns one with the fewest slips. Other
// orders of the members are many, so they are tried only with keys in force and
// only where nothing else explains the signature.
func search(d document, claims []claim, keys []Key) (match, bool) {
	var best match
	found := false
	for _, s := range secrets(keys) {
		for _, a := range algorithms() {
			found = s.match(&best, found, a, d.texts, claims)
		}
	}
	if found {
		return best, true
	}
	for _, s := range secrets(inForce(keys)) {
		found = s.match(&best, found, algorithms()[0], d.orders, claims)
	}
	return best, found
}

// match tries one key and algorithm on the texts and keeps the best in best.
func (s secret) match(best *match, found bool, a algorithm, texts []text, claims []claim) bool {
	wanted := sized(claims, a.size)
	if len(wanted) == 0 {
		return found
	}
	for _, t := range texts {
		mac := a.sum(s.bytes, t.bytes)
		for _, c := range wanted {
			m := match{c, t, s, a}
			if bytes.Equal(mac, c.mac) && (!found || len(m.slips()) < len(best.slips())) {
				*best, found = m, true
			}
		}
	}
	return found
}

func inForce(keys []Key) []Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return !k.InForce })
}

func sized(claims []claim, size int) []claim {
	var all []claim
	for _, c := range claims {
		if len(c.mac) == size {
			all = append(all, c)
		}
	}
	return all
}

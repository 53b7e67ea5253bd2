package audit

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"binnacle.io/core/auth"
)

// maxUserAgent bounds what a client can write into the log by its name.
const maxUserAgent = 1024

// appendEvent appends the event of a stage, in the order of upstream's fields
// and with its omissions, and a newline. Strings are quoted as encoding/json
// does: nothing a client sends can begin a line or end a value.
func appendEvent(b []byte, r *Record, stage Stage, now time.Time) []byte {
	b = append(b, `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"`...)
	b = append(b, r.verdict.level...)
	b = append(b, `","auditID":`...)
	b = appendString(b, string(r.ID))
	b = append(b, `,"stage":"`...)
	b = append(b, stage...)
	b = append(b, `","requestURI":`...)
	b = appendString(b, r.RequestURI)
	b = append(b, `,"verb":`...)
	b = appendString(b, r.Attributes.Verb)
	b = append(b, `,"user":`...)
	b = appendUser(b, r.Attributes.User)
	if r.Impersonated != nil {
		b = append(b, `,"impersonatedUser":`...)
		b = appendUser(b, r.Impersonated)
	}
	if len(r.SourceIPs) > 0 {
		b = append(b, `,"sourceIPs":`...)
		b = appendStrings(b, r.SourceIPs)
	}
	if ua := r.UserAgent; ua != "" {
		if len(ua) > maxUserAgent {
			ua = ua[:maxUserAgent] + "...TRUNCATED"
		}
		b = append(b, `,"userAgent":`...)
		b = appendString(b, ua)
	}
	if r.Attributes.Path == "" && r.Attributes.Resource != "" {
		b = appendRef(b, r)
	}
	if stage != RequestReceived && r.Status != nil {
		b = append(b, `,"responseStatus":`...)
		b = appendStatus(b, r.Status)
	}
	if len(r.RequestObject) > 0 && stage != RequestReceived {
		b = append(append(b, `,"requestObject":`...), r.RequestObject...)
	}
	if len(r.ResponseObject) > 0 && (stage == ResponseComplete || stage == Panic) {
		b = append(append(b, `,"responseObject":`...), r.ResponseObject...)
	}
	b = append(b, `,"requestReceivedTimestamp":"`...)
	b = r.Received.UTC().AppendFormat(b, metav1.RFC3339Micro)
	b = append(b, `","stageTimestamp":"`...)
	b = now.UTC().AppendFormat(b, metav1.RFC3339Micro)
	b = append(b, '"')
	b = appendAnnotations(b, r)
	return append(b, '}', '\n')
}

func appendRef(b []byte, r *Record) []byte {
	a := &r.Attributes
	b = append(b, `,"objectRef":{`...)
	begin := len(b)
	for _, f := range [...]struct{ name, value string }{
		{"resource", a.Resource}, {"namespace", a.Namespace}, {"name", a.Name}, {"uid", r.UID}, {"apiGroup", a.Group},
		{"apiVersion", a.Version}, {"resourceVersion", r.ResourceVersion}, {"subresource", a.Subresource},
	} {
		if f.value == "" {
			continue
		}
		if len(b) > begin {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, f.name...)
		b = append(b, '"', ':')
		b = appendString(b, f.value)
	}
	return append(b, '}')
}

func appendUser(b []byte, u *auth.User) []byte {
	if u == nil {
		return append(b, '{', '}')
	}
	b = append(b, `{"username":`...)
	b = appendString(b, u.Name)
	if u.UID != "" {
		b = append(b, `,"uid":`...)
		b = appendString(b, u.UID)
	}
	if len(u.Groups) > 0 {
		b = append(b, `,"groups":`...)
		b = appendStrings(b, u.Groups)
	}
	if len(u.Extra) > 0 {
		b = append(b, `,"extra":{`...)
		for i, key := range sortedKeys(u.Extra) {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, key)
			b = append(b, ':')
			b = appendStrings(b, u.Extra[key])
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// appendStatus spells out the common case of a bare code.
func appendStatus(b []byte, s *metav1.Status) []byte {
	if s.Status == "" && s.Message == "" && s.Reason == "" && s.Details == nil {
		b = append(b, `{"metadata":{},"code":`...)
		b = strconv.AppendInt(b, int64(s.Code), 10)
		return append(b, '}')
	}
	bare := *s
	bare.TypeMeta, bare.ListMeta = metav1.TypeMeta{}, metav1.ListMeta{}
	text, err := json.Marshal(&bare)
	if err != nil {
		// A Status is strings and numbers.
		panic("status does not encode: " + err.Error())
	}
	return append(b, text...)
}

func appendAnnotations(b []byte, r *Record) []byte {
	all := r.annotations.copy()
	if r.Decision != "" {
		if all == nil {
			b = append(b, `,"annotations":{"authorization.k8s.io/decision":`...)
			b = appendString(b, r.Decision)
			b = append(b, `,"authorization.k8s.io/reason":`...)
			b = appendString(b, r.Reason)
			return append(b, '}')
		}
		all["authorization.k8s.io/decision"], all["authorization.k8s.io/reason"] = r.Decision, r.Reason
	}
	if len(all) == 0 {
		return b
	}
	b = append(b, `,"annotations":{`...)
	for i, key := range sortedKeys(all) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, key)
		b = append(b, ':')
		b = appendString(b, all[key])
	}
	return append(b, '}')
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

// appendString quotes s as encoding/json does, which it asks for anything but
// plain text.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= utf8.RuneSelf {
			text, err := json.Marshal(s)
			if err != nil {
				panic("string does not encode: " + err.Error())
			}
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

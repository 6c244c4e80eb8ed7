package main

import (
	"fmt"
	"slices"
	"strings"
)

type pod struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		HostNetwork bool `json:"hostNetwork"`
		Containers  []struct {
			Ports []struct {
				Name          string `json:"name"`
				ContainerPort int    `json:"containerPort"`
			} `json:"ports"`
		} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
		PodIP string `json:"podIP"`
	} `json:"status"`
}

// hasAddress: the address of a pod that has ended may belong to another one already.
func (p *pod) hasAddress() bool {
	ended := p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed"
	return p.Status.PodIP != "" && !p.Spec.HostNetwork && !ended
}

type namespace struct {
	Metadata meta `json:"metadata"`
}

type policy struct {
	Metadata meta `json:"metadata"`
	Spec     struct {
		PodSelector selector `json:"podSelector"`
		PolicyTypes []string `json:"policyTypes"`
		Ingress     []rule   `json:"ingress"`
		Egress      []rule   `json:"egress"`
	} `json:"spec"`
}

type rule struct {
	From  []peer `json:"from"`
	To    []peer `json:"to"`
	Ports []struct {
		Protocol string `json:"protocol"`
		Port     any    `json:"port"`
		EndPort  int    `json:"endPort"`
	} `json:"ports"`
}

type peer struct {
	PodSelector       *selector `json:"podSelector"`
	NamespaceSelector *selector `json:"namespaceSelector"`
	IPBlock           *struct {
		CIDR   string   `json:"cidr"`
		Except []string `json:"except"`
	} `json:"ipBlock"`
}

// ports is one match for each port that a rule allows. A named port is looked up at the receiving pod; that of an
// egress rule, whose receivers may each call another number so, allows nothing.
func (r *rule) ports(receiver *pod, direction string) []string {
	if len(r.Ports) == 0 {
		return []string{""}
	}
	var matches []string
	for _, port := range r.Ports {
		protocol := strings.ToLower(port.Protocol)
		if protocol == "" {
			protocol = "tcp"
		}
		switch number := port.Port.(type) {
		case nil:
			matches = append(matches, "ip protocol "+protocol+" ")
		case float64:
			end := max(port.EndPort, int(number))
			matches = append(matches, fmt.Sprintf("%s dport %d-%d ", protocol, int(number), end))
		case string:
			for _, container := range receiver.Spec.Containers {
				for _, named := range container.Ports {
					if direction == "Ingress" && named.Name == number {
						matches = append(matches, fmt.Sprintf("%s dport %d ", protocol, named.ContainerPort))
					}
				}
			}
		}
	}
	return matches
}

type selector struct {
	MatchLabels      map[string]string `json:"matchLabels"`
	MatchExpressions []struct {
		Key      string   `json:"key"`
		Operator string   `json:"operator"`
		Values   []string `json:"values"`
	} `json:"matchExpressions"`
}

func (s *selector) matches(labels map[string]string) bool {
	for key, value := range s.MatchLabels {
		if actual, present := labels[key]; !present || actual != value {
			return false
		}
	}
	for _, expression := range s.MatchExpressions {
		actual, present := labels[expression.Key]
		holds := map[string]bool{
			"In":           present && slices.Contains(expression.Values, actual),
			"NotIn":        !present || !slices.Contains(expression.Values, actual),
			"Exists":       present,
			"DoesNotExist": !present,
		}
		if !holds[expression.Operator] {
			return false
		}
	}
	return true
}

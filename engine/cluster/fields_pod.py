"""The fields of a pod that Rayleigh knows, closed. The names are those of a PodSpec; parts that no rule reads are open."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.records.base import Json


class Part(BaseModel):
    """A part of a manifest: an unknown key is an error, and so is another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


Strings = dict[str, str]
Quantity = int | str
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Metadata(Part):
    """Metadata of an object, or of the pods of a group."""

    name: str | None = None
    generateName: str | None = None
    namespace: str | None = None
    labels: Strings | None = None
    annotations: Strings | None = None
    finalizers: list[str] | None = None


class Resources(Part):
    """What a container asks for and may use."""

    requests: dict[str, Quantity] | None = None
    limits: dict[str, Quantity] | None = None
    claims: list[Any] | None = None


class Variable(Part):
    """An environment variable."""

    name: str
    value: str | None = None
    valueFrom: Json | None = None


class Container(Part):
    """A container of a pod."""

    name: str
    image: str | None = None
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"] | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    env: list[Variable] | None = None
    envFrom: list[Json] | None = None
    resources: Resources | None = None
    volumeMounts: list[Json] | None = None
    ports: list[Json] | None = None
    workingDir: str | None = None
    lifecycle: Any = None
    livenessProbe: Any = None
    readinessProbe: Any = None
    startupProbe: Any = None
    resizePolicy: Any = None
    restartPolicy: str | None = None
    restartPolicyRules: Any = None
    securityContext: Any = None
    stdin: bool | None = None
    stdinOnce: bool | None = None
    terminationMessagePath: str | None = None
    terminationMessagePolicy: str | None = None
    tty: bool | None = None
    volumeDevices: Any = None


class Pod(Part):
    """Kubernetes' PodSpec."""

    containers: list[Container]
    initContainers: list[Container] | None = None
    restartPolicy: Literal["Always", "OnFailure", "Never"] | None = None
    volumes: list[Json] | None = None
    nodeSelector: Strings | None = None
    tolerations: list[Json] | None = None
    affinity: Any = None
    serviceAccountName: str | None = None
    serviceAccount: str | None = None
    imagePullSecrets: list[dict[str, str]] | None = None
    terminationGracePeriodSeconds: int | None = None
    activeDeadlineSeconds: int | None = None
    automountServiceAccountToken: bool | None = None
    dnsConfig: Any = None
    dnsPolicy: str | None = None
    enableServiceLinks: bool | None = None
    ephemeralContainers: Any = None
    hostAliases: Any = None
    hostIPC: bool | None = None
    hostNetwork: bool | None = None
    hostPID: bool | None = None
    hostUsers: bool | None = None
    hostname: str | None = None
    hostnameOverride: str | None = None
    nodeName: str | None = None
    os: Any = None
    overhead: Any = None
    preemptionPolicy: str | None = None
    priority: int | None = None
    priorityClassName: str | None = None
    readinessGates: Any = None
    resourceClaims: Any = None
    resources: Resources | None = None
    runtimeClassName: str | None = None
    schedulerName: str | None = None
    schedulingGates: Any = None
    schedulingGroup: Any = None
    securityContext: Any = None
    setHostnameAsFQDN: bool | None = None
    shareProcessNamespace: bool | None = None
    subdomain: str | None = None
    topologySpreadConstraints: Any = None


class Template(Part):
    """A template of pods."""

    metadata: Metadata | None = None
    spec: Pod

"""The fields of `ray.io/v1` that Rayleigh knows, closed: another key is an error. Schemas of the operator know more (`schemas.py`).

The names are those of KubeRay 1.7 (Apache-2.0) and of Kubernetes' PodSpec. Parts of a pod that no rule reads are not looked into.
"""

from typing import Any, Literal

from engine.cluster.fields_pod import Count, Metadata, Part, Positive, Resources, Strings, Template, Variable
from engine.records.base import Json


class Head(Part):
    """The group of the head."""

    template: Template
    rayStartParams: Strings | None = None
    resources: Strings | None = None
    labels: Strings | None = None
    serviceType: str | None = None
    headService: Any = None
    enableIngress: bool | None = None
    ingressOptions: Any = None


class Workers(Part):
    """A group of equal workers."""

    groupName: str
    template: Template
    minReplicas: Count | None = None
    maxReplicas: Count | None = None
    replicas: Count | None = None
    rayStartParams: Strings | None = None
    resources: Strings | None = None
    labels: Strings | None = None
    numOfHosts: Positive | None = None
    idleTimeoutSeconds: Count | None = None
    priority: int | None = None
    scaleStrategy: Any = None
    suspend: bool | None = None


class Autoscaler(Part):
    """Options of the autoscaler."""

    version: Literal["v1", "v2"] | None = None
    idleTimeoutSeconds: Count | None = None
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] | None = None
    image: str | None = None
    imagePullPolicy: str | None = None
    resources: Resources | None = None
    env: list[Variable] | None = None
    envFrom: Any = None
    command: list[str] | None = None
    args: list[str] | None = None
    securityContext: Any = None
    volumeMounts: Any = None


class FaultTolerance(Part):
    """State of the head outside of it."""

    backend: Literal["redis", "rocksdb"] | None = None
    redisAddress: str | None = None
    redisUsername: Json | None = None
    redisPassword: Json | None = None
    externalStorageNamespace: str | None = None
    storage: Any = None


class Auth(Part):
    """Tokens of Ray's own API."""

    mode: Literal["disabled", "token"] | None = None
    secretName: str | None = None
    enableK8sTokenAuth: bool | None = None


class Upgrade(Part):
    """What a change of a RayCluster does."""

    type: Literal["Recreate", "None"] | None = None


class Cluster(Part):
    """A cluster."""

    headGroupSpec: Head
    workerGroupSpecs: list[Workers] | None = None
    rayVersion: str | None = None
    enableInTreeAutoscaling: bool | None = None
    autoscalerOptions: Autoscaler | None = None
    gcsFaultToleranceOptions: FaultTolerance | None = None
    authOptions: Auth | None = None
    tlsOptions: Any = None
    networkPolicy: Any = None
    historyServerOptions: Any = None
    headServiceAnnotations: Strings | None = None
    idleTerminationOptions: Any = None
    managedBy: str | None = None
    suspend: bool | None = None
    upgradeStrategy: Upgrade | None = None


class Condition(Part):
    """When a rule of deletion applies."""

    jobStatus: Literal["SUCCEEDED", "FAILED"] | None = None
    jobDeploymentStatus: Literal["Failed"] | None = None
    ttlSeconds: Count | None = None


Policy = Literal["DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone"]


class DeletionRule(Part):
    """What is deleted, and when."""

    policy: Policy
    condition: Condition


class LegacyDeletion(Part):
    """What is deleted, the older way."""

    policy: Policy | None = None


class Deletion(Part):
    """What is deleted after a job."""

    deletionRules: list[DeletionRule] | None = None
    onSuccess: LegacyDeletion | None = None
    onFailure: LegacyDeletion | None = None


class Submitter(Part):
    """The submitter's own retries."""

    backoffLimit: int | None = None


class Job(Part):
    """The specification of a RayJob."""

    entrypoint: str | None = None
    rayClusterSpec: Cluster | None = None
    clusterSelector: Strings | None = None
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"] | None = None
    submitterPodTemplate: Template | None = None
    submitterConfig: Submitter | None = None
    runtimeEnvYAML: str | None = None
    jobId: str | None = None
    metadata: Strings | None = None
    entrypointNumCpus: float | None = None
    entrypointNumGpus: float | None = None
    entrypointResources: str | None = None
    shutdownAfterJobFinishes: bool | None = None
    ttlSecondsAfterFinished: int | None = None
    activeDeadlineSeconds: int | None = None
    preRunningDeadlineSeconds: Positive | None = None
    backoffLimit: int | None = None
    deletionStrategy: Deletion | None = None
    managedBy: str | None = None
    suspend: bool | None = None


class ServiceUpgrade(Part):
    """How a new version of a service replaces the old one."""

    type: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"] | None = None
    clusterUpgradeOptions: Json | None = None


class Service(Part):
    """The specification of a RayService."""

    rayClusterConfig: Cluster
    serveConfigV2: str | None = None
    serveService: Any = None
    upgradeStrategy: ServiceUpgrade | None = None
    excludeHeadPodFromServeSvc: bool | None = None
    rayClusterDeletionDelaySeconds: Count | None = None
    serviceUnhealthySecondThreshold: int | None = None
    deploymentUnhealthySecondThreshold: int | None = None
    managedBy: str | None = None
    suspend: bool | None = None


class RayCluster(Part):
    """A RayCluster."""

    apiVersion: str
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: Cluster
    status: Any = None


class RayJob(Part):
    """A RayJob."""

    apiVersion: str
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: Job
    status: Any = None


class RayService(Part):
    """A RayService."""

    apiVersion: str
    kind: Literal["RayService"]
    metadata: Metadata
    spec: Service
    status: Any = None


OBJECTS: dict[str, type[Part]] = {"RayCluster": RayCluster, "RayJob": RayJob, "RayService": RayService}

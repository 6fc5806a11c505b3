// A web service on Azure Container Apps. Probes are sent to the container directly, not through the ingress. Every version
// of the API accepts probe values of at most 10.
param name string = 'orders-api'
param image string
param environmentId string
param release string
param location string = resourceGroup().location

resource app 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  properties: {
    managedEnvironmentId: environmentId
    configuration: {
      activeRevisionsMode: 'multiple'
      maxInactiveRevisions: 10
      ingress: { external: true, targetPort: 8000, transport: 'auto' }
    }
    template: {
      revisionSuffix: release
      terminationGracePeriodSeconds: 30
      containers: [
        {
          name: 'app'
          image: image
          env: [
            { name: 'OTEL_SERVICE_NAME', value: name }
            { name: 'OTEL_RESOURCE_ATTRIBUTES', value: 'service.version=${release}' }
          ]
          probes: [
            { type: 'Startup', httpGet: { path: '/health/startup', port: 8000, scheme: 'HTTP' }, initialDelaySeconds: 1, periodSeconds: 6, timeoutSeconds: 2, failureThreshold: 10 }
            { type: 'Readiness', httpGet: { path: '/health/ready', port: 8000, scheme: 'HTTP' }, periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 2, successThreshold: 1 }
            { type: 'Liveness', httpGet: { path: '/health/live', port: 8000, scheme: 'HTTP' }, periodSeconds: 10, timeoutSeconds: 2, failureThreshold: 3 }
          ]
        }
      ]
      scale: { minReplicas: 2, maxReplicas: 10 }
    }
  }
}
